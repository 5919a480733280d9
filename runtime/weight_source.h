// Where a model's weights come from: a .sdw file, a folder of safetensors, or a rule (synthetic weights).
//
// A weight is named COMPONENT "/" NAME, with the component and the tensor name that the diffusers layout uses:
//   "unet/down_blocks.0.resnets.0.conv1.weight", "text_encoder/text_model.final_layer_norm.bias", "vae/decoder.conv_in.weight"
// Shapes are those of the checkpoint: linear [out, in], convolution [O, I, KH, KW], norms [C], embeddings [rows, C].
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"

namespace darkroom {

// One stored tensor, dense, row-major. `data` stays valid as long as its source.
struct WeightView {
  DType dtype = DType::none;
  Shape shape;
  const std::byte* data = nullptr;
  size_t bytes = 0;
};

// `count` elements of f32, f16 or bf16, from element `first` on, as floats; and back, rounded to nearest. The stored side need
// not be aligned: safetensors do not promise any.
void read_elements(DType dtype, const std::byte* data, int64_t first, int64_t count, float* out);
void write_elements(DType dtype, const float* values, int64_t count, std::byte* out);

// The first of `count` elements that is NaN or an infinity; −1 where there is none. At the speed of memory.
int64_t first_not_finite(DType dtype, const std::byte* data, int64_t count);
// Throws file_error naming file, tensor and element where a weight has one.
void require_finite(const WeightView& weight, std::string_view name, const std::string& where);

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The tensor, or a view with dtype none where the source has none of that name.
  // Sources that read other programs' files look at the numbers as they give them: file_error where one is NaN or an infinity.
  // A source may materialise the data on demand (synthetic, merged or quantised weights): the view is then valid until
  // release(name).
  virtual WeightView find(std::string_view name) const = 0;

  // What find() would return, for those who want type and shape alone: no data is made, and `data` may be null.
  virtual WeightView describe(std::string_view name) const { return find(name); }

  // The caller has packed or copied the tensor: its pages may leave memory. The view may be asked for again.
  virtual void release(std::string_view name) const = 0;

  // For error messages: the file or folder.
  virtual std::string where() const = 0;
};

}  // namespace darkroom

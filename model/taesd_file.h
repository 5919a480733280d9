// TAESD by the names that files give to its tensors: both halves in one file, or each in its own.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/tensor_file.h"

namespace darkroom {

// Layer N of a half is called decoder.layers.N (diffusers), taesd_decoder.N, decoder.N or N alone; all but diffusers count the clamp,
// which has no weights, as the decoder's layer 0.
class TaesdNames {
 public:
  // Nothing where the files are no TAESD. Throws file_error where one of them has a half that another has too, or layers in an order
  // that is none of TAESD's.
  static std::optional<TaesdNames> find(std::span<const TensorFile> files);

  // vae/config.json of an AutoencoderTiny, from the shapes.
  std::string config() const;

  // Which file should have a tensor, by its diffusers name, and what it is called there.
  struct Place {
    const TensorFile* file;
    std::string name;
  };
  Place operator()(const std::string& diffusers) const;

 private:
  struct Half {
    const TensorFile* file = nullptr;  // null: there is no such half
    std::string prefix;
    int64_t first = 0;            // the number of what diffusers calls layer 0
    std::vector<int64_t> blocks;  // residual blocks a level
  };
  static Half find_half(const TensorFile& file, bool decoder);
  static void count_blocks(Half& half, bool decoder);

  std::array<Half, 2> halves_;  // encoder, decoder
};

}  // namespace darkroom

// The definition of timestep_embedding, with the libraries' roundings to f32.
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (call.in[TimestepEmbeddingAttrs::kT].dtype != DType::f32) return "t must be f32";
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<TimestepEmbeddingAttrs>();
  const TensorView &t = call.in[TimestepEmbeddingAttrs::kT], &out = call.out;
  const int64_t R = t.channels(), half = attrs.dim / 2;
  const float log_period = float(-std::log(double(attrs.max_period)));
  const float steps = float(double(half) - double(attrs.freq_shift));

  // t of rank 1 gives a row of its own to each time; of rank 2, times lie side by side in a row.
  const auto [first, last] = team.range(t.shape.elements());
  for (int64_t item = first; item < last; ++item) {
    const int64_t row = item / R, column = item % R;
    const Real time = ref_load(t, ref_row_offset(t, row) + column);
    const int64_t begin = t.rank() == 1 ? ref_row_offset(out, item) : ref_row_offset(out, row) + column * attrs.dim;
    for (int64_t i = 0; i < half; ++i) {
      const float exponent = log_period * float(i) / steps;
      const float frequency = float(std::exp(double(exponent)));
      const float angle = float(time) * frequency;
      const double sine = std::sin(double(angle)), cosine = std::cos(double(angle));
      ref_store(out, begin + i, attrs.flip_sin_to_cos ? cosine : sine);
      ref_store(out, begin + half + i, attrs.flip_sin_to_cos ? sine : cosine);
    }
  }
}

}  // namespace

extern const KernelDef timestep_embedding_ref;
const KernelDef timestep_embedding_ref = {
    .op = OpKind::timestep_embedding,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

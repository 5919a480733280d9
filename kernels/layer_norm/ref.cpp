// The definition of layer_norm: per row the mean, then the mean square deviation, in double.
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[LayerNormAttrs::kX].dtype))
    return "x and out must be f32 or bf16";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<LayerNormAttrs>();
  const TensorView &x = call.in[LayerNormAttrs::kX], &gamma = call.in[LayerNormAttrs::kGamma],
                   &beta = call.in[LayerNormAttrs::kBeta];
  const int64_t C = x.channels();

  const auto [first, last] = team.range(x.rows());
  for (int64_t r = first; r < last; ++r) {
    const int64_t in = ref_row_offset(x, r), out = ref_row_offset(call.out, r);
    Real sum = 0;
    for (int64_t c = 0; c < C; ++c) sum += ref_load(x, in + c);
    const Real mean = sum / Real(C);
    Real squares = 0;
    for (int64_t c = 0; c < C; ++c) squares += (ref_load(x, in + c) - mean) * (ref_load(x, in + c) - mean);
    const Real scale = 1.0 / std::sqrt(squares / Real(C) + Real(attrs.eps));
    for (int64_t c = 0; c < C; ++c)
      ref_store(call.out, out + c, (ref_load(x, in + c) - mean) * scale * ref_load(gamma, c) + ref_load(beta, c));
  }
}

}  // namespace

extern const KernelDef layer_norm_ref;
const KernelDef layer_norm_ref = {
    .op = OpKind::layer_norm,
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

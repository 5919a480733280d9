// The definition of sampler_update: a product, then fused multiply-adds, in f32 and in the order of k.
#include <cmath>

#include "kernels/core/kernel.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (call.out.dtype != DType::f32 || !call.out.is_dense()) return "out must be dense f32";
  for (const TensorView& x : call.in)
    if (x.present() && (x.dtype != DType::f32 || !x.is_dense())) return "coefficients and terms must be dense f32";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const float* c = call.in[SamplerUpdateAttrs::kCoefficients].as<float>();
  const auto [first, last] = team.range(call.out.shape.elements());
  for (int64_t i = first; i < last; ++i) {
    float sum = c[0] * call.in[SamplerUpdateAttrs::kFirst].as<float>()[i];
    for (int k = 1; SamplerUpdateAttrs::kFirst + k < kMaxInputs; ++k) {
      const TensorView& x = call.in[SamplerUpdateAttrs::kFirst + k];
      if (!x.present()) break;
      sum = std::fmaf(c[k], x.as<float>()[i], sum);
    }
    call.out.as<float>()[i] = sum;
  }
}

}  // namespace

extern const KernelDef sampler_update_ref;
const KernelDef sampler_update_ref = {
    .op = OpKind::sampler_update,
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

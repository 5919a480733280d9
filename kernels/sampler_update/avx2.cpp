// One pass over all terms, eight elements at a time; the order of the sum is that of k, as in `ref`.
#include "kernels/core/kernel.h"
#include "kernels/core/rows.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (call.out.dtype != DType::f32 || !call.out.is_dense()) return "out must be dense f32";
  for (const TensorView& x : call.in)
    if (x.present() && (x.dtype != DType::f32 || !x.is_dense())) return "coefficients and terms must be dense f32";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  constexpr int kTerms = kMaxInputs - SamplerUpdateAttrs::kFirst;
  const float* coefficients = call.in[SamplerUpdateAttrs::kCoefficients].as<float>();
  const float* x[kTerms];
  __m256 c[kTerms];
  int n = 0;
  for (; n < kTerms && call.in[SamplerUpdateAttrs::kFirst + n].present(); ++n) {
    x[n] = call.in[SamplerUpdateAttrs::kFirst + n].as<float>();
    c[n] = _mm256_set1_ps(coefficients[n]);
  }
  float* out = call.out.as<float>();
  const int64_t total = call.out.shape.elements();
  const auto [first, last] = team.range((total + kFlatRow - 1) / kFlatRow);
  const int64_t end = last * kFlatRow < total ? last * kFlatRow : total;
  for (int64_t i = first * kFlatRow; i < end; i += 8) {
    const int lanes = end - i < 8 ? int(end - i) : 8;
    __m256 sum = _mm256_mul_ps(c[0], simd::load_n(x[0] + i, lanes));
    for (int k = 1; k < n; ++k) sum = _mm256_fmadd_ps(c[k], simd::load_n(x[k] + i, lanes), sum);
    simd::store_n(out + i, sum, lanes);
  }
}

}  // namespace

extern const KernelDef sampler_update_avx2;
const KernelDef sampler_update_avx2 = {
    .op = OpKind::sampler_update,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

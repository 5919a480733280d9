// A row at a time, which stays in L1: the mean; then the sums of the deviations from it and of their squares; then the
// result. The second sum corrects the rounding of the mean, so that a mean much larger than the deviation does no harm.
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/rows.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[LayerNormAttrs::kX].dtype))
    return "x and out must be f32 or bf16";
  return nullptr;
}

template <typename In, typename Out>
void normalize_row(const In* x, const float* gamma, const float* beta, int64_t C, float eps, Out* out) {
  const int64_t whole = C / 8 * 8;
  const int tail = int(C - whole);
  __m256 s0 = _mm256_setzero_ps(), s1 = s0;
  int64_t c = 0;
  for (; c + 16 <= whole; c += 16) {
    s0 = _mm256_add_ps(s0, simd::load(x + c));
    s1 = _mm256_add_ps(s1, simd::load(x + c + 8));
  }
  if (c < whole) s0 = _mm256_add_ps(s0, simd::load(x + c));
  if (tail) s1 = _mm256_add_ps(s1, simd::load_n(x + whole, tail));
  const float mean = simd::sum(_mm256_add_ps(s0, s1)) / float(C);

  const __m256 m = _mm256_set1_ps(mean);
  __m256 d0 = _mm256_setzero_ps(), d1 = d0, q0 = d0, q1 = d0;
  for (c = 0; c + 16 <= whole; c += 16) {
    const __m256 a = _mm256_sub_ps(simd::load(x + c), m), b = _mm256_sub_ps(simd::load(x + c + 8), m);
    d0 = _mm256_add_ps(d0, a);
    d1 = _mm256_add_ps(d1, b);
    q0 = _mm256_fmadd_ps(a, a, q0);
    q1 = _mm256_fmadd_ps(b, b, q1);
  }
  if (c < whole) {
    const __m256 a = _mm256_sub_ps(simd::load(x + c), m);
    d0 = _mm256_add_ps(d0, a);
    q0 = _mm256_fmadd_ps(a, a, q0);
  }
  if (tail) {
    const __m256 lanes = _mm256_castsi256_ps(simd::tail_mask(tail));
    const __m256 a = _mm256_and_ps(_mm256_sub_ps(simd::load_n(x + whole, tail), m), lanes);
    d1 = _mm256_add_ps(d1, a);
    q1 = _mm256_fmadd_ps(a, a, q1);
  }
  const double rest = double(simd::sum(_mm256_add_ps(d0, d1))) / double(C);
  const double variance = double(simd::sum(_mm256_add_ps(q0, q1))) / double(C) - rest * rest;
  const double positive = variance < 0 ? 0.0 : variance;  // NaN stays NaN
  const __m256 low = _mm256_set1_ps(float(rest)),
               scale = _mm256_set1_ps(float(1.0 / __builtin_sqrt(positive + double(eps))));

  for (c = 0; c < whole; c += 8) {
    const __m256 d = _mm256_sub_ps(_mm256_sub_ps(simd::load(x + c), m), low);
    simd::store(out + c, _mm256_fmadd_ps(_mm256_mul_ps(d, scale), simd::load(gamma + c), simd::load(beta + c)));
  }
  if (tail) {
    const __m256 d = _mm256_sub_ps(_mm256_sub_ps(simd::load_n(x + c, tail), m), low);
    simd::store_n(out + c,
                  _mm256_fmadd_ps(_mm256_mul_ps(d, scale), simd::load_n(gamma + c, tail), simd::load_n(beta + c, tail)),
                  tail);
  }
}

template <typename In, typename Out>
void run(const KernelCall& call, const Team& team) {
  const TensorView& x = call.in[LayerNormAttrs::kX];
  const float *gamma = call.in[LayerNormAttrs::kGamma].as<float>(), *beta = call.in[LayerNormAttrs::kBeta].as<float>();
  const float eps = call.attributes<LayerNormAttrs>().eps;
  const auto [first, last] = team.range(x.rows());
  for (int64_t r = first; r < last; ++r)
    normalize_row(x.as<In>() + row_offset(x, r), gamma, beta, x.channels(), eps,
                  call.out.as<Out>() + row_offset(call.out, r));
}

void launch(const KernelCall& call, const Team& team) {
  const bool in_f32 = call.in[LayerNormAttrs::kX].dtype == DType::f32, out_f32 = call.out.dtype == DType::f32;
  if (in_f32) return out_f32 ? run<float, float>(call, team) : run<float, bf16_t>(call, team);
  return out_f32 ? run<bf16_t, float>(call, team) : run<bf16_t, bf16_t>(call, team);
}

}  // namespace

extern const KernelDef layer_norm_avx2;
const KernelDef layer_norm_avx2 = {
    .op = OpKind::layer_norm,
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

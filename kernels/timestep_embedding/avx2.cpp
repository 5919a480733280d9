// Four angles at a time, in double: an angle of up to max_period needs more than f32 can reduce.
//   frequency  f32(exp(exponent)), the rounding that the libraries make, then the angle in f32
//   sin, cos   angle − k·π/2 by a two-part π/2, then Taylor's series on |r| ≤ π/4 to r^15 and r^16: below 1e-15
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/rows.h"
#include "kernels/core/simd_avx2.h"

// The mathematics library's own, declared here: <cmath> brings inline functions that must not be compiled for AVX2.
extern "C" double exp(double) noexcept;
extern "C" double log(double) noexcept;

namespace darkroom::kernels {
namespace {

constexpr int kMaxDegree = 8;

inline __m256d polynomial(__m256d x, const double (&c)[kMaxDegree]) {
  __m256d p = _mm256_set1_pd(c[kMaxDegree - 1]);
  for (int i = kMaxDegree - 2; i >= 0; --i) p = _mm256_fmadd_pd(p, x, _mm256_set1_pd(c[i]));
  return p;
}

inline void sine_cosine(__m256d angle, __m256d* sine, __m256d* cosine) {
  static constexpr double kSine[kMaxDegree] = {
      1.0, -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800.0, -1.0 / 1307674368000.0};
  static constexpr double kCosine[kMaxDegree] = {
      -1.0 / 2,       1.0 / 24,          -1.0 / 720,           1.0 / 40320,
      -1.0 / 3628800, 1.0 / 479001600.0, -1.0 / 87178291200.0, 1.0 / 20922789888000.0};
  const __m256d k = _mm256_round_pd(_mm256_mul_pd(angle, _mm256_set1_pd(0.63661977236758134)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256d r = _mm256_fnmadd_pd(k, _mm256_set1_pd(1.5707963267948966), angle);
  r = _mm256_fnmadd_pd(k, _mm256_set1_pd(6.123233995736766e-17), r);
  const __m256d r2 = _mm256_mul_pd(r, r);
  const __m256d s = _mm256_mul_pd(r, polynomial(r2, kSine));
  const __m256d c = _mm256_fmadd_pd(r2, polynomial(r2, kCosine), _mm256_set1_pd(1.0));
  // Quadrant: odd ones exchange the two, bit 1 of k turns the sine's sign, bit 1 of k + 1 the cosine's.
  const __m256i q = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(k));
  const __m256d odd = _mm256_castsi256_pd(_mm256_slli_epi64(q, 63));
  const __m256d sine_sign = _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_srli_epi64(q, 1), 63));
  const __m256i next = _mm256_add_epi64(q, _mm256_set1_epi64x(1));
  const __m256d cosine_sign = _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_srli_epi64(next, 1), 63));
  *sine = _mm256_xor_pd(_mm256_blendv_pd(s, c, odd), sine_sign);
  *cosine = _mm256_xor_pd(_mm256_blendv_pd(c, s, odd), cosine_sign);
}

// The first n of four, in f32 or bf16.
inline void store_four(const TensorView& out, int64_t offset, __m256d x, int n) {
  const __m256 wide = _mm256_castps128_ps256(_mm256_cvtpd_ps(x));
  if (out.dtype == DType::bf16) return simd::store_n(out.as<bf16_t>() + offset, wide, n);
  simd::store_n(out.as<float>() + offset, wide, n);
}

const char* reject(const KernelCall& call) {
  if (call.in[TimestepEmbeddingAttrs::kT].dtype != DType::f32) return "t must be f32";
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<TimestepEmbeddingAttrs>();
  const TensorView &t = call.in[TimestepEmbeddingAttrs::kT], &out = call.out;
  const int64_t R = t.channels(), half = attrs.dim / 2;
  const float log_period = float(-log(double(attrs.max_period)));
  const float steps = float(double(half) - double(attrs.freq_shift));
  const int64_t sines = attrs.flip_sin_to_cos ? half : 0, cosines = half - sines;

  const auto [first, last] = team.range(t.shape.elements());
  for (int64_t item = first; item < last; ++item) {
    const int64_t row = item / R, column = item % R;
    const float time = t.as<float>()[row_offset(t, t.rank() == 1 ? 0 : row) + column];
    const int64_t begin = t.rank() == 1 ? row_offset(out, item) : row_offset(out, row) + column * attrs.dim;
    for (int64_t i = 0; i < half; i += 4) {
      const int n = half - i < 4 ? int(half - i) : 4;
      double angle[4] = {};
      for (int lane = 0; lane < n; ++lane)
        angle[lane] = double(time * float(exp(double(log_period * float(i + lane) / steps))));
      __m256d sine, cosine;
      sine_cosine(_mm256_loadu_pd(angle), &sine, &cosine);
      store_four(out, begin + sines + i, sine, n);
      store_four(out, begin + cosines + i, cosine, n);
    }
  }
}

}  // namespace

extern const KernelDef timestep_embedding_avx2;
const KernelDef timestep_embedding_avx2 = {
    .op = OpKind::timestep_embedding,
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

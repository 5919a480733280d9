// Products of bf16 pairs (AVX512-BF16), beside the f32 lanes of simd_avx512.h.
//
// vdpbf16ps adds two products to each f32 lane. Products of bf16 are exact in f32; the two sums are rounded to nearest even,
// one after the other. Denormals count as zero, in and out.
#pragma once

#include "kernels/core/simd_avx512.h"

namespace darkroom::simd512 {

// Lane i: sums[i] + a[2i+1] · b[2i+1] + a[2i] · b[2i]; a and b are 32 bf16.
static inline __m512 dot_bf16(__m512 sums, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
}

// 32 bits at p, two bf16, in all lanes.
static inline __m512i broadcast_pair(const bf16_t* p) {
  int bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return _mm512_set1_epi32(bits);
}

// dot_bf16() with the pair at p in all lanes, broadcast by the instruction itself; see simd512::fmadd_from().
static inline __m512 dot_bf16_from(__m512 sums, const bf16_t* p, __m512i w) {
#ifdef __AVX512BF16__
  asm("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(sums) : "v"(w), "m"(*reinterpret_cast<const int(*)>(p)));
  return sums;
#else
  return dot_bf16(sums, broadcast_pair(p), w);
#endif
}

// Sixteen f32, rounded to nearest even, as operands of dot_bf16(): denormals become zero, which it takes them for anyway.
static inline void store_operand(bf16_t* p, __m512 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(v));
}

static inline void store_operand(bf16_t* p, __m512 v, __mmask16 mask) {
  _mm256_mask_storeu_epi16(p, mask, (__m256i)_mm512_cvtneps_pbh(v));
}

// Sixteen pairs (even[i], odd[i]), rounded likewise.
static inline __m512i pair_operands(__m512 even, __m512 odd) {
  const __m512i order =
      _mm512_setr_epi32(0x00100000, 0x00110001, 0x00120002, 0x00130003, 0x00140004, 0x00150005, 0x00160006, 0x00170007,
                        0x00180008, 0x00190009, 0x001a000a, 0x001b000b, 0x001c000c, 0x001d000d, 0x001e000e, 0x001f000f);
  return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
}

// 2^x in the lanes of `part`, zero in the others, for numbers whose place a bf16 will take: relative error below 1.1e-4, a twentieth
// of what that rounding adds; exact at whole numbers; NaN stays NaN. Slow where the result is denormal.
static inline __m512 rough_exp2(__mmask16 part, __m512 x) {
  const __m512 f = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
  __m512 p = _mm512_set1_ps(0.0782679702f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.226307682f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.695424348f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  return _mm512_maskz_scalef_ps(part, p, x);  // p · 2^floor(x)
}

// x · Φ(x) for the same purpose: relative error below 4e-4 down to x = -3; for all x an absolute one below 1.5e-7 |x| on top.
// Φ(−x) = erfc(x / √2) / 2, erfc(z) = (a₁ t + … + a₅ t⁵) e^(−z²), t = 1 / (1 + 0.3275911 z).
// Source: Abramowitz, Stegun, Handbook of Mathematical Functions (1964), 7.1.26.
static inline __m512 rough_gelu(__m512 x) {
  const __m512 z = _mm512_abs_ps(x), one = _mm512_set1_ps(1.0f);
  const __m512 t = _mm512_rcp14_ps(_mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f * 0.70710678f), one));
  __m512 p = _mm512_set1_ps(0.5f * 1.061405429f);
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * -1.453152027f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * 1.421413741f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * -0.284496736f));
  p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.5f * 0.254829592f));
  const __m512 exponent = _mm512_mul_ps(_mm512_mul_ps(x, _mm512_set1_ps(-0.5f * 1.44269504f)), x);  // −z² log2(e)
  const __mmask16 normal = _mm512_cmp_ps_mask(exponent, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
  const __m512 tail = _mm512_mul_ps(_mm512_mul_ps(p, t), rough_exp2(normal, exponent));
  const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLT_UQ);
  return _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, positive, one, tail));
}

}  // namespace darkroom::simd512

// Sixteen f32 lanes on AVX-512 (F, BW, VL, DQ): loads and stores of every activation and weight type, tails by mask, and
// the transcendental functions that the ops need.
//
// For translation units compiled with -mavx512f -mavx512bw -mavx512vl -mavx512dq only; static as in simd_avx2.h, for the
// same reason. The tests compile such units a second time, with SIMDe behind the intrinsics, for CPUs without AVX-512:
// tests/simd512/emulation.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/core/epilogue.h"

namespace darkroom::simd512 {

inline constexpr int kLanes = 16;

// The first n lanes, n >= 0; all of them from 16 on.
static inline __mmask16 first(int64_t n) { return n >= 16 ? __mmask16(0xffff) : __mmask16((1u << n) - 1); }

// --- loads and stores. The 16-bit types are widened to f32 and rounded to nearest even on the way back. ---------------

static inline __m512 widen_bf16(__m256i half) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
static inline __m512 load(const float* p) { return _mm512_loadu_ps(p); }
static inline __m512 load(const bf16_t* p) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline __m512 load(const f16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

static inline bool has_denormal(__m512 v) {
  constexpr int kDenormal = 0x20;
  return _mm512_fpclass_ps_mask(v, kDenormal) != 0;
}

// The upper halves of sixteen f32, rounded to nearest even; NaN stays NaN. vcvtneps2bf16 flushes denormals to zero: it has the
// others alone, for what is stored must not depend on what a CPU has.
static inline __m256i narrow_bf16(__m512 v) {
#ifdef __AVX512BF16__
  if (!has_denormal(v)) return (__m256i)_mm512_cvtneps_pbh(v);
#endif
  const __m512i u = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, rounded, quiet), 16));
}
static inline void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
#ifdef __AVX512BF16__
// Thirty-two of them.
static inline void store_both(bf16_t* p, __m512 lower, __m512 upper) {
  if (has_denormal(lower) || has_denormal(upper)) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(lower));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p) + 1, narrow_bf16(upper));
  } else {
    _mm512_storeu_si512(p, (__m512i)_mm512_cvtne2ps_pbh(upper, lower));
  }
}
#endif
static inline void store(bf16_t* p, __m512 v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(v)); }

// --- tails: lanes outside of the mask read as zero and are not written. ------------------------------------------------

static inline __m512 load(const float* p, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, p); }
static inline __m512 load(const bf16_t* p, __mmask16 mask) { return widen_bf16(_mm256_maskz_loadu_epi16(mask, p)); }
static inline void store(float* p, __m512 v, __mmask16 mask) { _mm512_mask_storeu_ps(p, mask, v); }
static inline void store(bf16_t* p, __m512 v, __mmask16 mask) { _mm256_mask_storeu_epi16(p, mask, narrow_bf16(v)); }

// *a · b + c, a broadcast by the instruction that multiplies. A register tile that takes a row's scalar twice, by a broadcast of its own
// and two multiplications, issues 3.1 instructions a cycle of its multiply-adds, by count; with 8 of 14 rows' scalars from memory 2.6, at 1.7 loads of the
// 2 that there are. Beside a busy hyperthread a core has 3 for each. The address should have no index, or it is two instructions all the same.
static inline __m512 fmadd_from(const float* a, __m512 b, __m512 c) {
#ifdef __AVX512F__
  asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*a));
  return c;
#else  // an emulation
  return _mm512_fmadd_ps(_mm512_set1_ps(*a), b, c);
#endif
}
inline constexpr int kRowsFromMemory = 8;  // of a register tile's

// --- across the lanes, in a fixed order -------------------------------------------------------------------------------

static inline float sum(__m512 v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float max(__m512 v) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// Element j of r[i] changes places with element i of r[j].
static inline void transpose(__m512i (&r)[16]) {
  __m512i t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // u[4g + c]: column 4L + c of rows 4g … 4g+3 in the 128-bit lane L.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i even_low = _mm512_shuffle_i32x4(u[c], u[4 + c], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(u[c], u[4 + c], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0xdd);
    r[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    r[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    r[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    r[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}
static inline void transpose(__m512 (&r)[16]) {
  __m512i bits[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) bits[i] = _mm512_castps_si512(r[i]);
  transpose(bits);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = _mm512_castsi512_ps(bits[i]);
}

// --- functions --------------------------------------------------------------------------------------------------------

// Coefficients and error bounds are those of simd_avx2.h; what differs is that vscalefps makes the power of two.

// exp(x + low), the sum never rounded: |low| < 8.
static inline __m512 exp_sum(__m512 x, __m512 low) {
  const __m512 lowest = _mm512_set1_ps(-86.6f);
  // The operand order matters: min and max return their second operand when one of them is NaN.
  const __m512 clamped = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(lowest, x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(_mm512_add_ps(clamped, low), _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), clamped);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  r = _mm512_add_ps(r, low);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  const __mmask16 large = _mm512_cmp_ps_mask(_mm512_add_ps(x, low), lowest, _CMP_NLT_UQ);
  return _mm512_maskz_mov_ps(large, _mm512_scalef_ps(p, n));
}
static inline __m512 exp(__m512 x) { return exp_sum(x, _mm512_setzero_ps()); }

static inline __m512 negate(__m512 x) { return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f)); }

// x · sigmoid(x)
static inline __m512 silu(__m512 x) { return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), exp(negate(x)))); }
// x · sigmoid(1.702 x)
static inline __m512 quick_gelu(__m512 x) {
  return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), exp(_mm512_mul_ps(x, _mm512_set1_ps(-1.702f)))));
}

// erfc(z) for z >= 0, as in simd_avx2.h.
static inline __m512 erfc_positive(__m512 z) {
  z = _mm512_min_ps(_mm512_set1_ps(14.0f), z);  // erfc(14) is zero in f32; an infinity would become NaN below
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.5f), one));
  const __m512 s = _mm512_fmsub_ps(t, _mm512_set1_ps(2.4f), _mm512_set1_ps(1.4f));
  __m512 p = _mm512_set1_ps(-2.28557692e-5f);
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(5.48602475e-5f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(1.29868218e-4f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-5.34320599e-4f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-2.75961153e-4f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(3.70747667e-3f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-1.04555185e-3f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-2.94703376e-2f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(1.57450736e-2f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(5.70307076e-1f));
  p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-5.58595359e-1f));
  const __m512 square = _mm512_mul_ps(z, z);
  const __m512 rest = _mm512_fmsub_ps(z, z, square);
  return _mm512_mul_ps(t, exp_sum(negate(square), _mm512_sub_ps(p, rest)));
}
// x · Φ(x), Φ(x) = erfc(-x/√2) / 2
static inline __m512 gelu(__m512 x) {
  const __m512 magnitude = _mm512_abs_ps(x);
  const __m512 half = _mm512_set1_ps(0.5f);
  const __m512 tail = _mm512_mul_ps(half, erfc_positive(_mm512_mul_ps(magnitude, _mm512_set1_ps(0.70710678f))));
  const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NLT_UQ);
  return _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, positive, _mm512_set1_ps(1.0f), tail));
}

// max(x, 0): the second operand where one is NaN.
static inline __m512 relu(__m512 x) { return _mm512_max_ps(_mm512_setzero_ps(), x); }

static inline __m512 activate(Activation activation, __m512 x) {
  switch (activation) {
    case Activation::none:
      break;
    case Activation::silu:
      return silu(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::quick_gelu:
      return quick_gelu(x);
    case Activation::relu:
      return relu(x);
  }
  return x;
}

// The lanes as a type, for kernels that are written once for every instruction set (NAME_on_simd.h). Vectors add, subtract
// and multiply by their operators; with n only the first n lanes are read, the others as zero, or written.
namespace {  // a type of its own for each unit: its functions must not meet those of a unit compiled otherwise
struct Lanes {
  using Vector = __m512;
  static constexpr int64_t kLanes = simd512::kLanes;
  static constexpr int kRowsFromMemory = simd512::kRowsFromMemory;

  template <typename T>
  static Vector load(const T* p) {
    return simd512::load(p);
  }
  template <typename T>
  static Vector load(const T* p, int64_t n) {
    return simd512::load(p, first(n));
  }
  template <typename T>
  static void store(T* p, Vector v) {
    simd512::store(p, v);
  }
  template <typename T>
  static void store(T* p, Vector v, int64_t n) {
    simd512::store(p, v, first(n));
  }
  static Vector set(float x) { return _mm512_set1_ps(x); }
  static Vector fmadd(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
  static Vector fmadd_from(const float* a, Vector b, Vector c) { return simd512::fmadd_from(a, b, c); }
  static Vector fnmadd(Vector a, Vector b, Vector c) { return _mm512_fnmadd_ps(a, b, c); }
  static Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
  static Vector max(Vector a, Vector b) { return _mm512_max_ps(a, b); }
  // The lowest 9 bits of each lane moved to sign and exponent.
  static Vector low_bits_as_exponent(Vector v) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 23));
  }
  static void transpose(Vector (&r)[kLanes]) { simd512::transpose(r); }
  static Vector silu(Vector v) { return simd512::silu(v); }
  static Vector activate(Activation activation, Vector v) { return simd512::activate(activation, v); }
};
}  // namespace

}  // namespace darkroom::simd512

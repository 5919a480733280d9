// Eight f32 lanes on AVX2 + FMA + F16C: loads and stores of every activation and weight type, tails, and the
// transcendental functions that the ops need.
//
// For translation units compiled with -mavx2 -mfma -mf16c only. Every function is `static inline`: an inline function with
// external linkage would be emitted here with AVX2 code and could be the copy that the linker keeps for the baseline path.
// For the same reason such a unit calls no inline function of the standard library in which code is generated.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/core/dtype.h"
#include "kernels/core/epilogue.h"

namespace darkroom::simd {

inline constexpr int kLanes = 8;

// --- loads and stores. The 16-bit types are widened to f32 and rounded to nearest even on the way back. ---------------

static inline __m256 load(const float* p) { return _mm256_loadu_ps(p); }
static inline __m256 load(const bf16_t* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
static inline __m256 load(const f16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// One element in all lanes.
static inline __m256 broadcast(const float* p) { return _mm256_broadcast_ss(p); }
static inline __m256 broadcast(const bf16_t* p) {
  return _mm256_castsi256_ps(_mm256_set1_epi32(int(uint32_t(p->bits) << 16)));
}
static inline __m256 broadcast(const f16_t* p) { return _mm256_cvtph_ps(_mm_set1_epi16(short(p->bits))); }

static inline void store(float* p, __m256 v) { _mm256_storeu_ps(p, v); }
// The upper halves of eight f32, rounded to nearest even; NaN stays NaN.
static inline __m128i narrow_bf16(__m256 v) {
  const __m256i u = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i upper = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(upper, upper), 0xd8);
  return _mm256_castsi256_si128(packed);
}
static inline void store(bf16_t* p, __m256 v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow_bf16(v)); }
static inline void store(f16_t* p, __m256 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

// --- tails: the first n lanes, 0 <= n <= 8. The others read as zero and are not written. ------------------------------

static inline __m256i tail_mask(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m256 load_n(const float* p, int n) { return _mm256_maskload_ps(p, tail_mask(n)); }
static inline __m256 load_n(const bf16_t* p, int n) {
  bf16_t full[kLanes] = {};
  memcpy(full, p, size_t(n) * sizeof(bf16_t));
  return load(full);
}
static inline __m256 load_n(const f16_t* p, int n) {
  f16_t full[kLanes] = {};
  memcpy(full, p, size_t(n) * sizeof(f16_t));
  return load(full);
}
static inline void store_n(float* p, __m256 v, int n) { _mm256_maskstore_ps(p, tail_mask(n), v); }
static inline void store_n(bf16_t* p, __m256 v, int n) {
  bf16_t full[kLanes];
  store(full, v);
  memcpy(p, full, size_t(n) * sizeof(bf16_t));
}
static inline void store_n(f16_t* p, __m256 v, int n) {
  f16_t full[kLanes];
  store(full, v);
  memcpy(p, full, size_t(n) * sizeof(f16_t));
}

// --- across the lanes, in a fixed order -------------------------------------------------------------------------------

static inline float sum(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float max(__m256 v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

// Element j of r[i] changes places with element i of r[j].
static inline void transpose(__m256 (&r)[8]) {
  __m256 t[8], u[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// --- functions --------------------------------------------------------------------------------------------------------

// exp(x + low), the sum never rounded: x may be large where low is the part of it that f32 cannot hold, |low| < 8.
// e^r by Cephes' polynomial on |r| <= ln(2)/2. Relative error below 1.2e-7; above 88.73 infinity, below -86.6 zero (so
// exp(-inf) = 0), NaN stays NaN.
static inline __m256 exp_sum(__m256 x, __m256 low) {
  const __m256 lowest = _mm256_set1_ps(-86.6f);
  // The operand order matters: min and max return their second operand when one of them is NaN.
  const __m256 clamped = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(lowest, x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(_mm256_add_ps(clamped, low), _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), clamped);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  r = _mm256_add_ps(r, low);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
  // (2p) · 2^(n-1), so that n = 128 needs no exponent beyond the range.
  const __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(126)), 23);
  const __m256 e = _mm256_mul_ps(_mm256_add_ps(p, p), _mm256_castsi256_ps(exponent));
  return _mm256_and_ps(e, _mm256_cmp_ps(_mm256_add_ps(x, low), lowest, _CMP_NLT_UQ));
}
static inline __m256 exp(__m256 x) { return exp_sum(x, _mm256_setzero_ps()); }

static inline __m256 negate(__m256 x) { return _mm256_xor_ps(x, _mm256_set1_ps(-0.0f)); }

// 1 / (1 + e^-x)
static inline __m256 sigmoid(__m256 x) {
  const __m256 one = _mm256_set1_ps(1.0f);
  return _mm256_div_ps(one, _mm256_add_ps(one, exp(negate(x))));
}
// x · sigmoid(x)
static inline __m256 silu(__m256 x) { return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp(negate(x)))); }
// x · sigmoid(1.702 x)
static inline __m256 quick_gelu(__m256 x) {
  return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), exp(_mm256_mul_ps(x, _mm256_set1_ps(-1.702f)))));
}

// erfc(z) for z >= 0: t · exp(-z² + P(t)), t = 1 / (1 + z/2), the form of Press et al., Numerical Recipes, 6.2; P is our
// own Chebyshev fit for z <= 10, in s = 2.4 t - 1.4, which lies in [-1, 1]. z² enters exp() unrounded, so that the error
// stays relative (3e-7) down the whole tail.
static inline __m256 erfc_positive(__m256 z) {
  z = _mm256_min_ps(_mm256_set1_ps(14.0f), z);  // erfc(14) is zero in f32; an infinity would become NaN below
  const __m256 one = _mm256_set1_ps(1.0f);
  const __m256 t = _mm256_div_ps(one, _mm256_fmadd_ps(z, _mm256_set1_ps(0.5f), one));
  const __m256 s = _mm256_fmsub_ps(t, _mm256_set1_ps(2.4f), _mm256_set1_ps(1.4f));
  __m256 p = _mm256_set1_ps(-2.28557692e-5f);
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(5.48602475e-5f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(1.29868218e-4f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(-5.34320599e-4f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(-2.75961153e-4f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(3.70747667e-3f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(-1.04555185e-3f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(-2.94703376e-2f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(1.57450736e-2f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(5.70307076e-1f));
  p = _mm256_fmadd_ps(p, s, _mm256_set1_ps(-5.58595359e-1f));
  const __m256 square = _mm256_mul_ps(z, z);
  const __m256 rest = _mm256_fmsub_ps(z, z, square);
  return _mm256_mul_ps(t, exp_sum(negate(square), _mm256_sub_ps(p, rest)));
}
// x · Φ(x), Φ(x) = erfc(-x/√2) / 2
static inline __m256 gelu(__m256 x) {
  const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
  const __m256 half = _mm256_set1_ps(0.5f);
  const __m256 tail = _mm256_mul_ps(half, erfc_positive(_mm256_mul_ps(magnitude, _mm256_set1_ps(0.70710678f))));
  const __m256 phi = _mm256_blendv_ps(_mm256_sub_ps(_mm256_set1_ps(1.0f), tail), tail, x);
  return _mm256_mul_ps(x, phi);
}

// max(x, 0): the second operand where one is NaN.
static inline __m256 relu(__m256 x) { return _mm256_max_ps(_mm256_setzero_ps(), x); }

template <Activation kActivation>
static inline __m256 activate(__m256 x) {
  if constexpr (kActivation == Activation::silu) return silu(x);
  if constexpr (kActivation == Activation::gelu) return gelu(x);
  if constexpr (kActivation == Activation::quick_gelu) return quick_gelu(x);
  if constexpr (kActivation == Activation::relu) return relu(x);
  return x;
}
static inline __m256 activate(Activation activation, __m256 x) {
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
  using Vector = __m256;
  static constexpr int64_t kLanes = simd::kLanes;
  static constexpr int kRowsFromMemory = 0;  // no instruction broadcasts and multiplies

  template <typename T>
  static Vector load(const T* p) {
    return simd::load(p);
  }
  template <typename T>
  static Vector load(const T* p, int64_t n) {
    return n >= kLanes ? simd::load(p) : simd::load_n(p, int(n));
  }
  template <typename T>
  static void store(T* p, Vector v) {
    simd::store(p, v);
  }
  template <typename T>
  static void store(T* p, Vector v, int64_t n) {
    n >= kLanes ? simd::store(p, v) : simd::store_n(p, v, int(n));
  }
  static Vector set(float x) { return _mm256_set1_ps(x); }
  static Vector fmadd(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
  static Vector fmadd_from(const float* a, Vector b, Vector c) { return fmadd(set(*a), b, c); }
  static Vector fnmadd(Vector a, Vector b, Vector c) { return _mm256_fnmadd_ps(a, b, c); }
  static Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
  static Vector max(Vector a, Vector b) { return _mm256_max_ps(a, b); }
  // The lowest 9 bits of each lane moved to sign and exponent.
  static Vector low_bits_as_exponent(Vector v) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), 23));
  }
  static void transpose(Vector (&r)[kLanes]) { simd::transpose(r); }
  static Vector silu(Vector v) { return simd::silu(v); }
  static Vector activate(Activation activation, Vector v) { return simd::activate(activation, v); }
};
}  // namespace

}  // namespace darkroom::simd

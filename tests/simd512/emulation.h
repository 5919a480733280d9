// AVX-512 for a CPU that has AVX2 alone: included before everything else (-include) in the kernels' second compilation,
// it puts SIMDe, a library of intrinsics in plain C, behind the names of <immintrin.h>. What SIMDe 0.7.4 lacks or gets
// wrong is here, an element at a time. An intrinsic that neither has does not compile.
#pragma once

#include <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#include <cmath>
#include <cstdint>
#include <cstring>

// Functions, for the types of their arguments, under the intrinsics' names by macro.
namespace darkroom::emulation {

// Lane i of a vector V as a T.
template <typename T, typename V>
static inline T get(const V& v, int i) {
  T x;
  memcpy(&x, reinterpret_cast<const char*>(&v) + size_t(i) * sizeof(T), sizeof(T));
  return x;
}
template <typename T, typename V>
static inline void put(V& v, int i, T x) {
  memcpy(reinterpret_cast<char*>(&v) + size_t(i) * sizeof(T), &x, sizeof(T));
}

// To lanes of another width.
template <typename To, typename From, typename ToVector, typename FromVector>
static inline ToVector convert(const FromVector& v) {
  ToVector r = {};
  constexpr int kLanes = int(sizeof(ToVector) / sizeof(To)) < int(sizeof(FromVector) / sizeof(From))
                             ? int(sizeof(ToVector) / sizeof(To))
                             : int(sizeof(FromVector) / sizeof(From));
  for (int i = 0; i < kLanes; ++i) put<To>(r, i, To(get<From>(v, i)));
  return r;
}
static inline __m512i cvtepu16_epi32(__m256i v) { return convert<uint32_t, uint16_t, __m512i>(v); }
static inline __m256i cvtepi32_epi16(__m512i v) { return convert<uint16_t, uint32_t, __m256i>(v); }
static inline __m512 cvtepi32_ps(__m512i v) { return convert<float, int32_t, __m512>(v); }
static inline __m128i cvtepi32_epi8(__m512i v) { return convert<uint8_t, uint32_t, __m128i>(v); }
static inline __m512i cvtps_epi32(__m512 v) {
  __m512i r = {};
  for (int half = 0; half < 2; ++half) put(r, half, _mm256_cvtps_epi32(get<__m256>(v, half)));
  return r;
}
static inline __m512 cvtph_ps(__m256i v) {
  __m512 r = {};
  for (int i = 0; i < 16; ++i) put(r, i, _cvtsh_ss(get<uint16_t>(v, i)));
  return r;
}

// a · 2^floor(b), rounded once.
static inline __m512 scalef_ps(__m512 a, __m512 b) {
  __m512 r = {};
  for (int i = 0; i < 16; ++i) {
    const float x = get<float>(a, i), y = get<float>(b, i);
    if (std::isnan(x) || std::isnan(y)) {
      put(r, i, x + y);
      continue;
    }
    const double power = std::fmin(std::fmax(std::floor(double(y)), -600.0), 600.0);
    put(r, i, float(std::ldexp(double(x), int(power))));
  }
  return r;
}

static inline __m512 maskz_scalef_ps(__mmask16 mask, __m512 a, __m512 b) {
  __m512 r = scalef_ps(a, b);
  for (int i = 0; i < 16; ++i)
    if (!(mask >> i & 1)) put(r, i, 0.0f);
  return r;
}

// As exact as the instruction may be: no kernel may need more than its 14 bits, nor count on its errors.
static inline __m512 rcp14_ps(__m512 v) {
  __m512 r = {};
  for (int i = 0; i < 16; ++i) put(r, i, 1.0f / get<float>(v, i));
  return r;
}

// x - floor(x), an infinity's is zero: no other rounding, and whole numbers alone, are modelled.
template <int kControl>
static inline __m512 reduce_ps(__m512 v) {
  static_assert(kControl == (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC));
  __m512 r = {};
  for (int i = 0; i < 16; ++i) {
    const float x = get<float>(v, i);
    put(r, i, std::isinf(x) ? 0.0f : x - std::floor(x));
  }
  return r;
}

// Pairs of bf16. Their products are exact in f32, so that each fused multiply-add rounds as one of the two sums does; only
// denormals, which the instruction takes for zero, are kept here.
template <typename Pairs>
static inline __m512 dpbf16_ps(__m512 sums, Pairs a, Pairs b) {
  const __m256i upper = _mm256_set1_epi32(int(0xffff0000));
  for (int half = 0; half < 2; ++half) {
    const __m256i x = get<__m256i>(a, half), y = get<__m256i>(b, half);
    __m256 s = get<__m256>(sums, half);
    s = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(x, upper)),
                        _mm256_castsi256_ps(_mm256_and_si256(y, upper)), s);
    s = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(x, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(y, 16)),
                        s);
    put(sums, half, s);
  }
  return sums;
}

// Sixteen f32 to bf16, to nearest even.
static inline __m256i cvtneps_pbh(__m512 v) {
  __m256i r = {};
  for (int i = 0; i < 16; ++i) {
    const uint32_t u = get<uint32_t>(v, i);
    const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
    put(r, i, uint16_t(is_nan ? (u >> 16) | 0x40u : (u + 0x7fffu + (u >> 16 & 1u)) >> 16));
  }
  return r;
}

static inline __m512i cvtne2ps_pbh(__m512 upper, __m512 lower) {
  __m512i r = {};
  put(r, 0, cvtneps_pbh(lower));
  put(r, 1, cvtneps_pbh(upper));
  return r;
}

// Lanes outside of the mask touch no memory.
static inline __m256i maskz_loadu_epi16(__mmask16 mask, const void* p) {
  __m256i r = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) memcpy(reinterpret_cast<char*>(&r) + 2 * i, static_cast<const char*>(p) + 2 * i, 2);
  return r;
}
static inline void mask_storeu_epi8(void* p, __mmask16 mask, __m128i v) {
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) memcpy(static_cast<char*>(p) + i, reinterpret_cast<const char*>(&v) + i, 1);
}
static inline __m512i maskz_loadu_epi16_512(__mmask32 mask, const void* p) {
  __m512i r = {};
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) memcpy(reinterpret_cast<char*>(&r) + 2 * i, static_cast<const char*>(p) + 2 * i, 2);
  return r;
}
static inline void mask_storeu_epi16(void* p, __mmask16 mask, __m256i v) {
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) memcpy(static_cast<char*>(p) + 2 * i, reinterpret_cast<const char*>(&v) + 2 * i, 2);
}
static inline void mask_storeu_epi16_512(void* p, __mmask32 mask, __m512i v) {
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) memcpy(static_cast<char*>(p) + 2 * i, reinterpret_cast<const char*>(&v) + 2 * i, 2);
}
static inline __m512 maskz_loadu_ps(__mmask16 mask, const void* p) {
  __m512 r = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) memcpy(reinterpret_cast<char*>(&r) + 4 * i, static_cast<const char*>(p) + 4 * i, 4);
  return r;
}
static inline void mask_storeu_ps(void* p, __mmask16 mask, __m512 v) {
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) memcpy(static_cast<char*>(p) + 4 * i, reinterpret_cast<const char*>(&v) + 4 * i, 4);
}

// AMX: eight tiles a thread. Before a configuration, as on hardware, a tile can't be used.
struct TileFile {
  bool configured = false;
  char tile[8][16][64];
};
inline thread_local TileFile tiles;

static inline char (&tile(int i))[16][64] {
  if (!tiles.configured) __builtin_trap();
  return tiles.tile[i];
}
static inline void tile_loadconfig(const void* config) {
  const unsigned char* bytes = static_cast<const unsigned char*>(config);
  tiles.configured = bytes[0] == 1;
  for (int i = 0; i < 8; ++i)  // no other shape is modelled
    if (bytes[16 + 2 * i] != 64 || bytes[17 + 2 * i] != 0 || bytes[48 + i] != 16) __builtin_trap();
}
static inline void tile_release() { tiles.configured = false; }
static inline void tile_zero(int i) { memset(tile(i), 0, sizeof tile(i)); }
static inline void tile_loadd(int i, const void* base, long stride) {
  for (int row = 0; row < 16; ++row) memcpy(tile(i)[row], static_cast<const char*>(base) + row * stride, 64);
}
static inline void tile_stored(int i, void* base, long stride) {
  for (int row = 0; row < 16; ++row) memcpy(static_cast<char*>(base) + row * stride, tile(i)[row], 64);
}
static inline void tile_dpbf16ps(int sums, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int k = 0; k < 16; ++k) {
      __m512 row;
      __m512i pair, weights;
      memcpy(&row, tile(sums)[m], 64);
      memcpy(&weights, tile(b)[k], 64);
      for (int n = 0; n < 16; ++n) memcpy(reinterpret_cast<char*>(&pair) + 4 * n, tile(a)[m] + 4 * k, 4);
      row = dpbf16_ps(row, pair, weights);
      memcpy(tile(sums)[m], &row, 64);
    }
}

static inline void tile_dpbssd(int sums, int a, int b) {
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 16; ++n) {
      int32_t sum;
      memcpy(&sum, tile(sums)[m] + 4 * n, 4);
      for (int k = 0; k < 64; ++k)
        sum += int32_t(int8_t(tile(a)[m][k])) * int32_t(int8_t(tile(b)[k / 4][4 * n + k % 4]));
      memcpy(tile(sums)[m] + 4 * n, &sum, 4);
    }
}

}  // namespace darkroom::emulation

#define DARKROOM_EMULATE(name) darkroom::emulation::name
#undef _mm512_extracti32x8_epi32
#define _mm512_extracti32x8_epi32(v, half) DARKROOM_EMULATE(get<__m256i>)(v, half)
#undef _mm512_cvtepi32_epi8
#define _mm512_cvtepi32_epi8 DARKROOM_EMULATE(cvtepi32_epi8)
#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32 DARKROOM_EMULATE(cvtps_epi32)
#undef _mm_mask_storeu_epi8
#define _mm_mask_storeu_epi8 DARKROOM_EMULATE(mask_storeu_epi8)
#undef _mm512_cvtss_f32
#define _mm512_cvtss_f32(v) DARKROOM_EMULATE(get<float>)(v, 0)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(v, half) DARKROOM_EMULATE(get<__m256>)(v, half)
#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32 DARKROOM_EMULATE(cvtepu16_epi32)
#undef _mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi16 DARKROOM_EMULATE(cvtepi32_epi16)
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps DARKROOM_EMULATE(cvtepi32_ps)
#undef _mm512_cvtph_ps
#define _mm512_cvtph_ps DARKROOM_EMULATE(cvtph_ps)
#undef _mm512_scalef_ps
#define _mm512_scalef_ps DARKROOM_EMULATE(scalef_ps)
#undef _mm512_maskz_scalef_ps
#define _mm512_maskz_scalef_ps DARKROOM_EMULATE(maskz_scalef_ps)
#undef _mm512_reduce_ps
#define _mm512_reduce_ps(v, control) DARKROOM_EMULATE(reduce_ps<control>)(v)
#undef _mm512_dpbf16_ps
#define _mm512_dpbf16_ps DARKROOM_EMULATE(dpbf16_ps)
#undef _mm512_cvtne2ps_pbh
#define _mm512_cvtne2ps_pbh DARKROOM_EMULATE(cvtne2ps_pbh)
#undef _mm512_cvtneps_pbh
#define _mm512_cvtneps_pbh DARKROOM_EMULATE(cvtneps_pbh)
#undef _mm512_maskz_loadu_epi16
#define _mm512_maskz_loadu_epi16 DARKROOM_EMULATE(maskz_loadu_epi16_512)
#undef _mm256_maskz_loadu_epi16
#define _mm256_maskz_loadu_epi16 DARKROOM_EMULATE(maskz_loadu_epi16)
#undef _mm256_mask_storeu_epi16
#define _mm256_mask_storeu_epi16 DARKROOM_EMULATE(mask_storeu_epi16)
#undef _mm512_mask_storeu_epi16
#define _mm512_mask_storeu_epi16 DARKROOM_EMULATE(mask_storeu_epi16_512)
#undef _mm512_rcp14_ps
#define _mm512_rcp14_ps DARKROOM_EMULATE(rcp14_ps)
#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps DARKROOM_EMULATE(maskz_loadu_ps)
#undef _mm512_mask_storeu_ps
#define _mm512_mask_storeu_ps DARKROOM_EMULATE(mask_storeu_ps)
#undef _tile_loadconfig
#define _tile_loadconfig DARKROOM_EMULATE(tile_loadconfig)
#undef _tile_release
#define _tile_release DARKROOM_EMULATE(tile_release)
#undef _tile_zero
#define _tile_zero DARKROOM_EMULATE(tile_zero)
#undef _tile_loadd
#define _tile_loadd DARKROOM_EMULATE(tile_loadd)
#undef _tile_stream_loadd
#define _tile_stream_loadd DARKROOM_EMULATE(tile_loadd)
#undef _tile_stored
#define _tile_stored DARKROOM_EMULATE(tile_stored)
#undef _tile_dpbf16ps
#define _tile_dpbf16ps DARKROOM_EMULATE(tile_dpbf16ps)
#undef _tile_dpbssd
#define _tile_dpbssd DARKROOM_EMULATE(tile_dpbssd)

// The int8 GEMM core for AVX512-VNNI; gemm_tile_avx512.h has the tile, gemm_frame.h the loops, gemm_int8.h the scales.
//
//   A         q + 128, unsigned, as vpdpbusd wants it; 128 · Σ w, known since packing, is taken off the sum
//   weights   panels of 32 channels in fours along K, [K / 4][32][4] int8
//   blocks    four times as deep as in f32, in the same bytes: KC <= 1536, MC <= 252, NC <= 384
//   sums      |(q + 128) · w| <= 255 · 127: K up to 65536 stays within int32
#pragma once

#include "kernels/core/gemm_int8.h"
#include "kernels/core/gemm_tile_avx512.h"

namespace darkroom::gemm_avx512_vnni {

using namespace gemm_avx512;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

struct Fours {
  using Cell = uint8_t;
  using Sum = int32_t;
  using Vector = __m512i;
  static constexpr int64_t kGroup = 4, kUnit = kGroup;
  static constexpr int64_t kLda = 1536 + 64;  // 25 cache lines, odd, spreads the sets

  static __m512i zero() { return _mm512_setzero_si512(); }
  static __m512i add(__m512i x, __m512i y) { return _mm512_add_epi32(x, y); }
  static __m512i load(const int32_t* p) { return _mm512_loadu_si512(p); }
  static void store(int32_t* p, __m512i x) { _mm512_storeu_si512(p, x); }
  static __m512i broadcast(const uint8_t* p) {
    int four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static __m512i load_weights(const int8_t* p) { return _mm512_loadu_si512(p); }
  static __m512i multiply_add(__m512i sums, __m512i a, __m512i w) { return _mm512_dpbusd_epi32(sums, a, w); }
};

struct Core : Fours {
  static constexpr int64_t kMr = gemm_avx512::kMr, kNr = gemm_avx512::kNr;
  static constexpr int64_t kMaxKc = 1536;
  static constexpr int64_t kMaxMc = 252;       // 18 tiles
  static constexpr int64_t kMaxNcPanels = 12;  // 384 channels
  static constexpr double kCycles = 0.5;       // two instructions for four k, one a cycle
  static constexpr int32_t kOffset = 128;

  static DType packed_type(DType) { return DType::u8; }  // for its size
  static MicroKernel<Core> micro_kernel(DType, int64_t rows) { return micro_kernel_of<int8_t, Fours>(rows); }

  template <typename T>
  static uint32_t max_bits(const T* from, int64_t n, uint32_t max) {
    const __m512i no_sign = _mm512_set1_epi32(0x7fffffff);
    __m512i m = _mm512_set1_epi32(int(max));
    for (int64_t i = 0; i < n; i += 16)
      m = _mm512_max_epi32(
          m, _mm512_and_si512(no_sign, _mm512_castps_si512(simd512::load(from + i, simd512::first(n - i)))));
    const __m256i h = _mm256_max_epi32(_mm512_castsi512_si256(m), _mm512_extracti32x8_epi32(m, 1));
    __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_max_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return uint32_t(_mm_cvtsi128_si32(_mm_max_epi32(q, _mm_shuffle_epi32(q, 0xb1))));
  }

  template <typename T>
  static void quantize(const T* from, int64_t n, float factor, uint8_t* to) {
    const __m512 f = _mm512_set1_ps(factor);
    const __m128i offset = _mm_set1_epi8(char(0x80));
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 part = simd512::first(n - i);
      const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(simd512::load(from + i, part), f));
      _mm_mask_storeu_epi8(to + i, part, _mm_xor_si128(_mm512_cvtepi32_epi8(q), offset));  // + 128
    }
  }

  static const float* scale_tile(int32_t* tile, int64_t rows, const float* row_scales, const float* channel_scales,
                                 const int32_t* corrections) {
    float* out = reinterpret_cast<float*>(tile);
    for (int64_t n = 0; n < kNr; n += 16) {
      const __m512 channel = _mm512_loadu_ps(channel_scales + n);
      const __m512i correction = _mm512_loadu_si512(corrections + n);
      for (int64_t r = 0; r < rows; ++r) {
        const __m512i sum = _mm512_sub_epi32(_mm512_loadu_si512(tile + r * kNr + n), correction);
        _mm512_storeu_ps(out + r * kNr + n,
                         _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(_mm512_set1_ps(row_scales[r]), channel)));
      }
    }
    return out;
  }

  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    gemm_avx512::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_avx512_vnni

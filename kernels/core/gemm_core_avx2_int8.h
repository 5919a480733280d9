// The int8 GEMM core for AVX2. vpmaddubsw would saturate at 2 · 127 · 128, so the cells are int16 and vpmaddwd adds two
// exact products in int32.
//
//   A         int16, KC <= 640 in the bytes of 320 f32
//   weights   panels of 16 channels in pairs along K, [K / 2][16][2] int8, widened as they are loaded
//   registers 12 accumulators (6 × 16), 2 for W, 1 for A, 1 for products
//   a step    12 vpmaddwd, 12 vpaddd, 6 broadcasts, 2 widening loads for 192 products; f32 takes 24 FMAs for them
#pragma once

#include "kernels/core/gemm_core_avx2.h"
#include "kernels/core/gemm_int8.h"

namespace darkroom::gemm_avx2_int8 {

using namespace gemm_frame;

inline constexpr int64_t kMr = 6, kNr = 16;
inline constexpr int64_t kMaxKc = 640;
inline constexpr int64_t kLda = kMaxKc + 32;  // 21 cache lines, odd, spreads the sets

// c [R, 16] = (accumulate ? c : 0) + a [R, k] (row stride kLda) · w [k / 2, 16, 2]
template <int R>
static void micro_kernel(const int16_t* a, const void* w, int64_t k, int32_t* c, bool accumulate) {
  const __m128i* b = static_cast<const __m128i*>(w);
  __m256i acc[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
  for (int64_t i = 0; i < k; i += 2) {
    const __m256i b0 = _mm256_cvtepi8_epi16(_mm_loadu_si128(b)), b1 = _mm256_cvtepi8_epi16(_mm_loadu_si128(b + 1));
    b += 2;
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      int pair;
      memcpy(&pair, a + r * kLda, sizeof pair);
      const __m256i ar = _mm256_set1_epi32(pair);
      acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(ar, b0));
      acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(ar, b1));
    }
    a += 2;
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      __m256i* to = reinterpret_cast<__m256i*>(c + r * kNr + 8 * v);
      if (accumulate) acc[r][v] = _mm256_add_epi32(acc[r][v], _mm256_loadu_si256(to));
      _mm256_storeu_si256(to, acc[r][v]);
    }
}

namespace {  // a type of its own for each unit: its functions must not meet those of a unit compiled otherwise

struct Core {
  using Cell = int16_t;
  using Sum = int32_t;
  static constexpr int64_t kMr = gemm_avx2_int8::kMr, kNr = gemm_avx2_int8::kNr, kGroup = 2, kUnit = kGroup;
  static constexpr int64_t kMaxKc = gemm_avx2_int8::kMaxKc, kLda = gemm_avx2_int8::kLda;
  static constexpr int64_t kMaxMc = 192;       // 32 tiles
  static constexpr int64_t kMaxNcPanels = 24;  // 384 channels
  static constexpr int64_t kHeldRows = kMaxMc, kAbreast = 1, kAbreastOfSums = 1;
  static constexpr bool kReadsRows = false;
  static constexpr double kCycles = 0.55;
  static constexpr int32_t kOffset = 0;

  static DType packed_type(DType) { return DType::u8; }  // for its size
  static MicroKernel<Core> micro_kernel(DType, int64_t rows, bool) {
    switch (rows) {
      case 1:
        return gemm_avx2_int8::micro_kernel<1>;
      case 2:
        return gemm_avx2_int8::micro_kernel<2>;
      case 3:
        return gemm_avx2_int8::micro_kernel<3>;
      case 4:
        return gemm_avx2_int8::micro_kernel<4>;
      case 5:
        return gemm_avx2_int8::micro_kernel<5>;
      default:
        return gemm_avx2_int8::micro_kernel<6>;
    }
  }

  template <typename T>
  static uint32_t max_bits(const T* from, int64_t n, uint32_t max) {
    const __m256i no_sign = _mm256_set1_epi32(0x7fffffff);
    __m256i m = _mm256_set1_epi32(int(max));
    for (int64_t i = 0; i < n; i += 8)
      m = _mm256_max_epi32(m, _mm256_and_si256(no_sign, _mm256_castps_si256(gemm_avx2::load_part(from + i, n - i))));
    __m128i h = _mm_max_epi32(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    h = _mm_max_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return uint32_t(_mm_cvtsi128_si32(_mm_max_epi32(h, _mm_shuffle_epi32(h, 0xb1))));
  }

  template <typename T>
  static void quantize(const T* from, int64_t n, float factor, int16_t* to) {
    const __m256 f = _mm256_set1_ps(factor);
    const auto rounded = [&](int64_t i) {
      return _mm256_cvtps_epi32(_mm256_mul_ps(gemm_avx2::load_part(from + i, n - i), f));
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const __m256i packed = _mm256_packs_epi32(rounded(i), rounded(i + 8));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm256_permute4x64_epi64(packed, 0xd8));
    }
    for (; i < n; i += 8) {
      const __m256i v = rounded(i);
      const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
      int16_t last[8];
      _mm_storeu_si128(reinterpret_cast<__m128i*>(last), half);
      memcpy(to + i, last, size_t(smaller(n - i, 8)) * sizeof(int16_t));
    }
  }

  static const float* scale_tile(int32_t* tile, int64_t rows, const float* row_scales, const float* channel_scales,
                                 const int32_t*) {
    float* out = reinterpret_cast<float*>(tile);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t n = r * kNr; n < (r + 1) * kNr; n += 8) {
        const __m256 scale =
            _mm256_mul_ps(_mm256_set1_ps(row_scales[r]), _mm256_loadu_ps(channel_scales + n - r * kNr));
        const __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(tile + n));
        _mm256_storeu_ps(out + n, _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale));
      }
    return out;
  }

  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    gemm_avx2::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_avx2_int8

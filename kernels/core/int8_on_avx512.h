// What gemm_int8.h asks of a core, on AVX-512: maxima, whole numbers, and sums f32 again.
#pragma once

#include <type_traits>

#include "kernels/core/gemm_int8.h"
#include "kernels/core/gemm_tile_avx512.h"

namespace darkroom::int8_on_avx512 {
namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

// For cells of q (int8_t) or q + 128 (uint8_t), in panels of 32 channels.
template <typename Cell>
struct Cells {
  static constexpr int32_t kOffset = std::is_signed_v<Cell> ? 0 : 128;

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
  static void quantize(const T* from, int64_t n, float factor, Cell* to) {
    const __m512 f = _mm512_set1_ps(factor);
    const __m128i offset = _mm_set1_epi8(char(kOffset));
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 part = simd512::first(n - i);
      const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(simd512::load(from + i, part), f));
      _mm_mask_storeu_epi8(to + i, part, _mm_xor_si128(_mm512_cvtepi32_epi8(q), offset));  // + kOffset
    }
  }

  static const float* scale_tile(int32_t* tile, int64_t rows, const float* row_scales, const float* channel_scales,
                                 const int32_t* corrections) {
    float* out = reinterpret_cast<float*>(tile);
    for (int64_t n = 0; n < gemm_avx512::kNr; n += 16) {
      const __m512 channel = _mm512_loadu_ps(channel_scales + n);
      const __m512i correction = _mm512_loadu_si512(corrections + n);
      for (int64_t r = 0; r < rows; ++r) {
        const __m512i sum = _mm512_sub_epi32(_mm512_loadu_si512(tile + r * gemm_avx512::kNr + n), correction);
        _mm512_storeu_ps(out + r * gemm_avx512::kNr + n,
                         _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(_mm512_set1_ps(row_scales[r]), channel)));
      }
    }
    return out;
  }
};

}  // namespace
}  // namespace darkroom::int8_on_avx512

// The int8 GEMM core for AVX512-VNNI; gemm_tile_avx512.h has the tile, gemm_frame.h the loops, gemm_int8.h the scales.
//
//   A         q + 128, unsigned, as vpdpbusd wants it; 128 · Σ w, known since packing, is taken off the sum
//   weights   panels of 32 channels in fours along K, [K / 4][32][4] int8
//   blocks    four times as deep as in f32, in the same bytes: KC <= 1536, MC <= 252, NC <= 384
//   sums      |(q + 128) · w| <= 255 · 127: K up to 65536 stays within int32
#pragma once

#include "kernels/core/int8_on_avx512.h"

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

struct Core : Fours, int8_on_avx512::Cells<uint8_t> {
  static constexpr int64_t kMr = gemm_avx512::kMr, kNr = gemm_avx512::kNr;
  static constexpr int64_t kMaxKc = 1536;
  static constexpr int64_t kMaxMc = 252;       // 18 tiles
  static constexpr int64_t kMaxNcPanels = 12;  // 384 channels
  static constexpr int64_t kHeldRows = kMaxMc, kAbreast = 1, kAbreastOfSums = 1;
  static constexpr bool kReadsRows = false;
  static constexpr double kCycles = 0.5;  // two instructions for four k, one a cycle

  static DType packed_type(DType) { return DType::u8; }  // for its size
  static MicroKernel<Core> micro_kernel(DType, int64_t rows, bool) { return micro_kernel_of<int8_t, Fours>(rows); }

  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    gemm_avx512::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_avx512_vnni

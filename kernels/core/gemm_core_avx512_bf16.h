// The GEMM core for bf16 products with f32 sums (AVX512-BF16); gemm_tile_avx512.h has the tile, gemm_frame.h the loops.
//
//   A         copied as it is: bf16
//   weights   panels of 32 channels in pairs along K, [K / 2][32][2], rounded to bf16 where they are stored finer
//   blocks    twice as deep as in f32, in the same bytes: KC <= 768, MC <= 252, NC <= 384
#pragma once

#include "kernels/core/gemm_tile_avx512.h"
#include "kernels/core/simd_avx512_bf16.h"

namespace darkroom::gemm_avx512_bf16 {

using namespace gemm_avx512;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

struct Pairs {
  using Cell = bf16_t;
  using Sum = float;
  using Vector = __m512;
  static constexpr int64_t kGroup = 2, kUnit = kGroup;
  static constexpr int64_t kLda = 768 + 32;  // 25 cache lines, odd, spreads the sets

  static __m512 zero() { return _mm512_setzero_ps(); }
  static __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
  static __m512i broadcast(const bf16_t* p) { return simd512::broadcast_pair(p); }
  static __m512i load_weights(const bf16_t* p) { return _mm512_loadu_si512(p); }
  static __m512 multiply_add(__m512 sums, __m512i a, __m512i w) { return simd512::dot_bf16(sums, a, w); }
  static __m512 multiply_add_from(__m512 sums, const bf16_t* a, __m512i w) {
    return simd512::dot_bf16_from(sums, a, w);
  }
};

struct Core : Pairs {
  static constexpr int64_t kMr = gemm_avx512::kMr, kNr = gemm_avx512::kNr;
  static constexpr int64_t kMaxKc = 768;
  static constexpr int64_t kMaxMc = 252;       // 18 tiles
  static constexpr int64_t kMaxNcPanels = 12;  // 384 channels
  static constexpr int64_t kHeldRows = kMaxMc, kAbreast = 1, kAbreastOfSums = 1;
  static constexpr bool kReadsRows = false;
  static constexpr double kCycles = 1;  // two instructions for two k, one a cycle

  static DType packed_type(DType) { return DType::bf16; }
  static MicroKernel<Core> micro_kernel(DType, int64_t rows, bool) { return micro_kernel_of<bf16_t, Pairs>(rows); }
  static void copy(const bf16_t* from, int64_t n, bf16_t* to) { memcpy(to, from, size_t(n) * sizeof(bf16_t)); }
  static void copy(const float* from, int64_t n, bf16_t* to) {
    for (int64_t i = 0; i < n; i += 16)
      simd512::store(to + i, simd512::load(from + i, simd512::first(n - i)), simd512::first(n - i));
  }
  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    gemm_avx512::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_avx512_bf16

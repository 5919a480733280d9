// The f32 GEMM core for AVX-512; gemm_tile_avx512.h has the tile, gemm_frame.h the loops around it.
//
//   weights   panels of 32 channels in the stored type (f32, f16, bf16), widened as they are loaded
//   blocks    KC <= 192: a panel block (24 KB in f32) and a tile's rows of A (11 KB) share L1, with room for another hyperthread's
//             data; with 384 (49 and 21 KB) a whole step takes a twentieth longer. MC <= 252, NC <= 384: A (210 KB) and the
//             partial sums (387 KB) share 1 MiB of L2.
#pragma once

#include "kernels/core/gemm_tile_avx512.h"

namespace darkroom::gemm_avx512 {
namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

struct F32 {
  using Cell = float;
  using Sum = float;
  using Vector = __m512;
  static constexpr int64_t kGroup = 1, kUnit = kGroup;
  static constexpr int64_t kLda = 192 + 16;  // 13 cache lines, odd, spreads the sets

  static __m512 zero() { return _mm512_setzero_ps(); }
  static __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
  static __m512 broadcast(const float* p) { return _mm512_set1_ps(*p); }
  template <typename W>
  static __m512 load_weights(const W* p) {
    return simd512::load(p);
  }
  static __m512 multiply_add(__m512 sums, __m512 a, __m512 w) { return _mm512_fmadd_ps(a, w, sums); }
  static __m512 multiply_add_from(__m512 sums, const float* a, __m512 w) { return simd512::fmadd_from(a, w, sums); }
};

struct Core : F32 {
  static constexpr int64_t kMr = gemm_avx512::kMr, kNr = gemm_avx512::kNr;
  static constexpr int64_t kMaxKc = 192;
  static constexpr int64_t kMaxMc = 252;       // 18 tiles
  static constexpr int64_t kMaxNcPanels = 12;  // 384 channels
  static constexpr int64_t kHeldRows = 3 * kMaxMc, kAbreast = 12, kAbreastOfSums = 12;
  static constexpr bool kReadsRows = false;
  static constexpr double kCycles = 2;  // two multiply-adds, one a cycle

  static DType packed_type(DType stored) { return stored; }
  static MicroKernel<Core> micro_kernel(DType packed, int64_t rows, bool) {
    if (packed == DType::bf16) return micro_kernel_of<bf16_t, F32>(rows);
    if (packed == DType::f16) return micro_kernel_of<f16_t, F32>(rows);
    return micro_kernel_of<float, F32>(rows);
  }
  template <typename T>
  static void copy(const T* from, int64_t n, float* to) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) simd512::store(to + i, simd512::load(from + i));
    if (i < n) simd512::store(to + i, simd512::load(from + i, simd512::first(n - i)), simd512::first(n - i));
  }
  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    gemm_avx512::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_avx512

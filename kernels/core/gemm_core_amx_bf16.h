// The GEMM core for bf16 products with f32 sums on AMX; gemm_tile_amx.h has the tile, gemm_frame.h the loops around it.
//
//   A         copied as it is, bf16; read where it lies where K is one block
//   weights   panels of 32 channels in pairs along K, [K / 2][32][2]; K is padded with zeros to whole steps of 32
//   blocks    KC <= 640: a panel of weights, 40 KB, stays in L1; rows of A come from L2 past it (tileloaddt1) and are used once. Where K is
//             one block it is the other way round: 32 rows of A stay, twelve panels go past them. MC <= 512, NC <= 384: A and sums take 1.5 of the 2 MiB of L2
//
// Denormals count as zero, in and out; sums are rounded to nearest even.
#pragma once

#include "kernels/core/gemm_tile_amx.h"
#include "kernels/core/gemm_tile_avx512.h"

namespace darkroom::gemm_amx_bf16 {

using namespace gemm_frame;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

struct Pairs {
  using Cell = bf16_t;
  using Sum = float;
  static constexpr int64_t kGroup = 2, kUnit = 32;

  static void upper_left() { _tile_dpbf16ps(0, 4, 6); }
  static void upper_right() { _tile_dpbf16ps(1, 4, 7); }
  static void lower_left() { _tile_dpbf16ps(2, 5, 6); }
  static void lower_right() { _tile_dpbf16ps(3, 5, 7); }
};

struct Core : Pairs {
  using Lanes = simd512::Lanes;  // with which a convolution's moments are found
  static constexpr int64_t kMr = gemm_amx::kMr, kNr = gemm_amx::kNr;
  static constexpr int64_t kMaxKc = 640;
  static constexpr int64_t kLda = kMaxKc + 32;  // 21 cache lines, odd, spreads the sets
  static constexpr int64_t kMaxMc = 512;        // 16 tiles
  static constexpr int64_t kMaxNcPanels = 12;   // 384 channels
  static constexpr int64_t kHeldRows = kMaxMc, kAbreast = 12, kAbreastOfSums = 1;
  static constexpr bool kReadsRows = true;
  static constexpr double kCycles = 0.1;  // 512 products a cycle at best

  static DType packed_type(DType) { return DType::bf16; }
  static MicroKernel<Core> micro_kernel(DType, int64_t rows, bool abreast) {
    return abreast ? gemm_amx::row_kernel_of<Pairs, false>(rows) : gemm_amx::row_kernel_of<Pairs, true>(rows);
  }

  static void copy(const bf16_t* from, int64_t n, bf16_t* to) { memcpy(to, from, size_t(n) * sizeof(bf16_t)); }
  static void copy(const float* from, int64_t n, bf16_t* to) {
    for (int64_t i = 0; i < n; i += 16)
      simd512::store(to + i, simd512::load(from + i, simd512::first(n - i)), simd512::first(n - i));
  }
  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    static_assert(kNr == gemm_avx512::kNr);
    gemm_avx512::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_amx_bf16

// The int8 GEMM core for AMX; gemm_tile_amx.h has the tile, gemm_frame.h the loops, gemm_int8.h the scales.
//
//   A         q, signed
//   weights   panels of 32 channels in fours along K, [K / 4][32][4] int8; K is padded with zeros to whole steps of 64
//   blocks    as in bf16, in bytes: KC <= 1280, MC <= 512, NC <= 384
#pragma once

#include "kernels/core/gemm_tile_amx.h"
#include "kernels/core/int8_on_avx512.h"

namespace darkroom::gemm_amx_int8 {

using namespace gemm_frame;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

struct Fours {
  using Cell = int8_t;
  using Sum = int32_t;
  static constexpr int64_t kGroup = 4, kUnit = 64;

  static void upper_left() { _tile_dpbssd(0, 4, 6); }
  static void upper_right() { _tile_dpbssd(1, 4, 7); }
  static void lower_left() { _tile_dpbssd(2, 5, 6); }
  static void lower_right() { _tile_dpbssd(3, 5, 7); }
};

struct Core : Fours, int8_on_avx512::Cells<int8_t> {
  static constexpr int64_t kMr = gemm_amx::kMr, kNr = gemm_amx::kNr;
  static constexpr int64_t kMaxKc = 1280;
  static constexpr int64_t kLda = kMaxKc + 64;  // 21 cache lines, odd, spreads the sets
  static constexpr int64_t kMaxMc = 512;        // 16 tiles
  static constexpr int64_t kMaxNcPanels = 12;   // 384 channels
  static constexpr int64_t kHeldRows = kMaxMc, kAbreast = 12, kAbreastOfSums = 1;
  static constexpr bool kReadsRows = false;
  static constexpr double kCycles = 0.05;  // 1024 products a cycle at best

  static DType packed_type(DType) { return DType::u8; }  // for its size
  static MicroKernel<Core> micro_kernel(DType, int64_t rows, bool abreast) {
    return abreast ? gemm_amx::micro_kernel_of<Fours, kLda, false>(rows) : gemm_amx::micro_kernel_of<Fours, kLda>(rows);
  }

  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    static_assert(kNr == gemm_avx512::kNr);
    gemm_avx512::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_amx_int8

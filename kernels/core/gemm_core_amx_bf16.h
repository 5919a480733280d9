// The GEMM core for bf16 products with f32 sums on AMX: a coprocessor of eight tiles of 16 rows × 64 bytes.
//
//   A         copied as it is: bf16
//   weights   panels of 32 channels in pairs along K, [K / 2][32][2], which is how a tile wants its second operand; K is padded
//             with zeros to whole steps of 32
//   tile      32 × 32: four tiles of sums, two of A, two of weights; a step of 32 k is 4 loads of 1 KB and 4 multiplications of
//             16 cycles each
//   blocks    KC <= 320: a panel of weights and a tile's rows of A, 20 KB each, share L1, the rows of A come from L2. With 512, 32
//             KB each, a product takes an eighth longer. MC <= 512, NC <= 384: A and sums take 1.2 of the 2 MiB of L2
//
// Rows of a tile beyond the block's last are computed from whatever the scratch holds, and not stored: rows do not mix.
// Denormals count as zero, in and out; sums are rounded to nearest even.  Source: Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 1, chapter 18.
#pragma once

#include "kernels/core/gemm_tile_avx512.h"

namespace darkroom::gemm_amx_bf16 {

using namespace gemm_frame;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

// The intrinsics are inline assembly that does not tell the compiler what memory it reads.
inline void memory_is_read() { asm volatile("" ::: "memory"); }

// All eight tiles whole, while this lives; of the calling thread.
class Tiles {
 public:
  Tiles() {
    alignas(64) static constexpr struct {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } kWhole;
    memory_is_read();
    _tile_loadconfig(&kWhole);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

constexpr int64_t kMr = 32, kNr = 32, kGroup = 2, kUnit = 32;

// A MicroKernel whose rows of A are kLda cells apart. kBoth: more than 16 rows.
template <int64_t kLda, bool kBoth>
void multiply(const bf16_t* a, const void* weights, int64_t k, float* c, bool accumulate) {
  constexpr int64_t kRowOfA = kLda * int64_t(sizeof(bf16_t)), kRowOfW = kNr * kGroup * int64_t(sizeof(bf16_t));
  constexpr int64_t kRowOfC = kNr * int64_t(sizeof(float));
  const bf16_t *lower = a + 16 * kLda, *w = static_cast<const bf16_t*>(weights);
  memory_is_read();
  if (accumulate) {
    _tile_loadd(0, c, kRowOfC);
    _tile_loadd(1, c + 16, kRowOfC);
    if (kBoth) {
      _tile_loadd(2, c + 16 * kNr, kRowOfC);
      _tile_loadd(3, c + 16 * kNr + 16, kRowOfC);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if (kBoth) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  for (int64_t i = 0; i < k; i += kUnit, w += kUnit * kNr) {
    _tile_loadd(6, w, kRowOfW);
    _tile_loadd(4, a + i, kRowOfA);
    _tile_loadd(7, w + 16 * kGroup, kRowOfW);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (kBoth) {
      _tile_loadd(5, lower + i, kRowOfA);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, kRowOfC);
  _tile_stored(1, c + 16, kRowOfC);
  if (kBoth) {
    _tile_stored(2, c + 16 * kNr, kRowOfC);
    _tile_stored(3, c + 16 * kNr + 16, kRowOfC);
  }
}
template <int64_t kLda>
auto micro_kernel_of(int64_t rows) {
  return rows > 16 ? multiply<kLda, true> : multiply<kLda, false>;
}

struct Core {
  using Cell = bf16_t;
  using Sum = float;
  static constexpr int64_t kMr = gemm_amx_bf16::kMr, kNr = gemm_amx_bf16::kNr;
  static constexpr int64_t kGroup = gemm_amx_bf16::kGroup, kUnit = gemm_amx_bf16::kUnit;
  static constexpr int64_t kMaxKc = 320;
  static constexpr int64_t kLda = kMaxKc + 32;  // 11 cache lines, odd, spreads the sets
  static constexpr int64_t kMaxMc = 512;        // 16 tiles
  static constexpr int64_t kMaxNcPanels = 12;   // 384 channels
  static constexpr double kCycles = 0.1;        // 512 products a cycle at best

  static DType packed_type(DType) { return DType::bf16; }
  static MicroKernel<Core> micro_kernel(DType, int64_t rows) { return micro_kernel_of<kLda>(rows); }

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

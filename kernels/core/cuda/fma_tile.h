// The tile product of the kernels without tensor cores: 64 × 64 outputs, 16 of K at a time, 256 threads with 4 × 4 sums each.
//
// Both operands lie in shared memory as [K][64], so that a thread reads its four rows and its four columns 16 bytes at a time.
// Budget: 16 sums + 8 operands; 8.7 KB. 16 multiply-adds for two loads of 16 bytes: bound by shared memory at about half of the
// FMA rate, which is enough for what runs here: f32 mode, and shapes that tensor cores refuse.
#pragma once

#include "kernels/core/cuda/device.h"

namespace darkroom::cuda {

inline constexpr int kFmaTile = 64, kFmaDepth = 16, kFmaPitch = kFmaTile + 4, kFmaThreads = 256;
inline constexpr int kFmaLoads = kFmaTile * kFmaDepth / kFmaThreads;  // of a thread, of each operand

// The thread's place in the tile: its sums, and what it loads: k of K, rows `row` + 16 i.
struct FmaPlace {
  int sum_row, sum_column, k, row;
};
DARKROOM_DEVICE FmaPlace fma_place() {
  const int t = int(threadIdx.x);
  return {t / 16 * 4, t % 16 * 4, t % kFmaDepth, t / kFmaDepth};
}

struct FmaTile {
  Shared<float> a, b;
};
DARKROOM_DEVICE FmaTile fma_tile() {
  return {shared_array<float, kFmaDepth * kFmaPitch, 100>(), shared_array<float, kFmaDepth * kFmaPitch, 101>()};
}

// Puts what the threads have loaded into the tile and multiplies; barriers before, between and, by the next call, after.
DARKROOM_DEVICE void fma_step(float (&sum)[4][4], const FmaTile& tile, const FmaPlace& at, const float (&a)[kFmaLoads],
                              const float (&b)[kFmaLoads]) {
  sync_block();
  DARKROOM_UNROLL
  for (int i = 0; i < kFmaLoads; ++i) {
    store(tile.a + (at.k * kFmaPitch + at.row + i * 16), a[i]);
    store(tile.b + (at.k * kFmaPitch + at.row + i * 16), b[i]);
  }
  sync_block();
  DARKROOM_UNROLL
  for (int k = 0; k < kFmaDepth; ++k) {
    const auto x = load(as<Vec<float, 4>>(tile.a + (k * kFmaPitch + at.sum_row)));
    const auto y = load(as<Vec<float, 4>>(tile.b + (k * kFmaPitch + at.sum_column)));
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) {
      DARKROOM_UNROLL
      for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(x.v[i], y.v[j], sum[i][j]);
    }
  }
}

}  // namespace darkroom::cuda

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

// Where in the tile a thread's sums lie.
struct FmaPlace {
  int sum_row, sum_column;
};
DARKROOM_DEVICE FmaPlace fma_place() { return {int(threadIdx.x) / 16 * 4, int(threadIdx.x) % 16 * 4}; }

// What a thread loads of an operand: elements (row + i · row_step, k + i · k_step). Neighbouring threads take what lies side by side
// in memory: usually rows, which run along K; or the columns of a matrix that lies the other way.
struct FmaLoad {
  int row, k, row_step, k_step;
};
DARKROOM_DEVICE FmaLoad fma_load_along_k() {
  return {int(threadIdx.x) / kFmaDepth, int(threadIdx.x) % kFmaDepth, kFmaThreads / kFmaDepth, 0};
}
DARKROOM_DEVICE FmaLoad fma_load_across_k() {
  return {int(threadIdx.x) % kFmaTile, int(threadIdx.x) / kFmaTile, 0, kFmaThreads / kFmaTile};
}

struct FmaTile {
  Shared<float> a, b;
};
DARKROOM_DEVICE FmaTile fma_tile() {
  return {shared_array<float, kFmaDepth * kFmaPitch, 100>(), shared_array<float, kFmaDepth * kFmaPitch, 101>()};
}

// Puts what the threads have loaded into the tile and multiplies; barriers before, between and, by the next call, after.
DARKROOM_DEVICE void fma_step(float (&sum)[4][4], const FmaTile& tile, const FmaPlace& at, const FmaLoad& of_a,
                              const float (&a)[kFmaLoads], const FmaLoad& of_b, const float (&b)[kFmaLoads]) {
  sync_block();
  DARKROOM_UNROLL
  for (int i = 0; i < kFmaLoads; ++i) {
    store(tile.a + ((of_a.k + i * of_a.k_step) * kFmaPitch + of_a.row + i * of_a.row_step), a[i]);
    store(tile.b + ((of_b.k + i * of_b.k_step) * kFmaPitch + of_b.row + i * of_b.row_step), b[i]);
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

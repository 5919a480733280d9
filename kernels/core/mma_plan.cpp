#include "kernels/core/mma_plan.h"

namespace darkroom {

namespace {

struct TileCost {
  MmaTile tile;
  int64_t m, n;
  double rate;  // multiply-adds a clock of an SM that runs only these
};
// mma.sync reaches about 60 % of Hopper's 1024 a clock from tiles of 128×128; smaller ones wait for shared memory: each
// fragment is used less often. To be replaced by measurements.
constexpr TileCost kTiles[] = {
    {MmaTile::large, 128, 128, 600}, {MmaTile::medium, 128, 64, 500}, {MmaTile::small, 64, 64, 380}};
constexpr double kSms = 132, kFillBlocks = 6;          // blocks of K that a tile waits at its beginning and end
constexpr double kBytesAClock = 3500, kLaunch = 3000;  // partial sums through L2; the second kernel's launch, in clocks
constexpr int64_t kSplits[] = {1, 2, 3, 4, 6, 8};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// In clocks of one card.
double modelled_time(const GemmCall& c, const TileCost& t, int64_t splits) {
  const int64_t k_blocks = c.k_blocks(kMmaBlock), of_split = ceil_div(k_blocks, splits);
  const int64_t tiles = ceil_div(c.rows(), t.m) * ceil_div(c.columns(), t.n) * splits;
  const double waves = double(ceil_div(tiles, int64_t(kSms)));
  const double one = (double(of_split) + kFillBlocks) * double(t.m * t.n * kMmaBlock) / t.rate;
  const double sums = double(splits * c.rows() * c.columns()) * 2 * sizeof(float);
  return waves * one + (splits > 1 ? sums / kBytesAClock + kLaunch : 0);
}

}  // namespace

MmaPlan mma_plan(const GemmCall& c) {
  MmaPlan best;
  double least = 0;
  const int64_t k_blocks = c.k_blocks(kMmaBlock);
  for (const TileCost& t : kTiles)
    for (int64_t wanted : kSplits) {
      if (wanted > k_blocks) continue;
      const int64_t splits = ceil_div(k_blocks, ceil_div(k_blocks, wanted));  // none empty
      const double time = modelled_time(c, t, splits);
      if (least != 0 && time >= least) continue;
      least = time;
      best = {t.tile, splits};
    }
  return best;
}

size_t mma_scratch_bytes(const GemmCall& c, const MmaPlan& plan) {
  return plan.splits > 1 ? size_t(plan.splits * c.rows() * c.padded_columns()) * sizeof(float) : 0;
}

const char* reject_mma(const GemmCall& c, DType type) {
  if (c.source[0].dtype != type) return type == DType::bf16 ? "A must be bf16" : "A must be f16";
  if (c.out.dtype != type && c.out.dtype != DType::f32) return "out must be of A's dtype or f32";
  for (const TensorView& x : c.source)
    if (!rows_of(8, x)) return "A's rows must be multiples of 8 channels, aligned to 16 bytes";
  return reject_gemm(c);
}

}  // namespace darkroom

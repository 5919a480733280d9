#include "kernels/core/mma_plan.h"

#include <algorithm>

#include "kernels/core/gpu_model.h"

namespace darkroom {

namespace {

using namespace gpu_model;

constexpr double kAloneRate = 0.75;  // of a block's four warps that have an SM to themselves: nobody hides their waits
constexpr int64_t kSplits[] = {1, 2, 3, 4, 6, 8, 12, 16};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One block of K of one tile, in clocks of an SM that has no other: the products, or what shared memory gives away (four clocks
// an ldmatrix.x4) and takes (the copies), or the tile's share of L2, whichever is longest.
double block_clocks(const MmaTileShape& t) {
  const double steps = double(kMmaBlock) / 16, warps = double(t.warps_m * t.warps_n);
  const int64_t fragments = t.m / t.warps_m / 16 + t.n / t.warps_n / 16;  // of 16 rows, that a warp loads
  const double loads = warps * steps * double(fragments) * 512;
  const double copies = double((t.m + t.n) * kMmaBlock) * 2;
  const double products = double(t.m * t.n * kMmaBlock) / kTensor;
  return std::max({products, (loads + copies) / kSharedBytes, copies * kSms / kL2Bytes});
}

}  // namespace

double mma_clocks(const GemmCall& c, const MmaPlan& plan) {
  const MmaTileShape& t = mma_tile_shape(plan.tile);
  const int64_t tiles = ceil_div(c.rows(), t.m) * ceil_div(c.columns(), t.n) * c.phases * plan.splits;
  const double blocks = double(ceil_div(c.k_blocks(kMmaBlock), plan.splits));
  // Tiles of an SM run side by side and share its units; what each waits for at its ends, only those after it see.
  const double of_sm = double(ceil_div(tiles, int64_t(kSms))),
               turns = double(ceil_div(tiles, int64_t(kSms) * t.resident));
  const double alone = of_sm < 2 && t.resident > 1 ? 1 / kAloneRate : 1;
  const double epilogue = 2 * sizeof(float) * double(t.m * t.n) / kSharedBytes;
  double clocks = of_sm * (blocks * block_clocks(t) * alone + epilogue) + turns * kFill;
  if (plan.splits > 1) {
    const double sums =
        double(plan.splits * c.phases * c.rows() * c.padded_columns()) * 2 * sizeof(float);  // written and read
    clocks += sums / kL2Bytes + kLaunch + kFill;
  }
  return clocks;
}

const MmaTileShape& mma_tile_shape(MmaTile tile) {
  for (const MmaTileShape& t : kMmaTiles)
    if (t.tile == tile) return t;
  return kMmaTiles[0];
}

MmaPlan mma_plan(const GemmCall& c) {
  MmaPlan best;
  double least = 0;
  const int64_t k_blocks = c.k_blocks(kMmaBlock);
  for (const MmaTileShape& t : kMmaTiles)
    for (int64_t wanted : kSplits) {
      if (wanted > k_blocks) continue;
      const int64_t splits = ceil_div(k_blocks, ceil_div(k_blocks, wanted));  // none empty
      const double time = mma_clocks(c, {t.tile, splits});
      if (least != 0 && time >= least) continue;
      least = time;
      best = {t.tile, splits};
    }
  return best;
}

size_t mma_scratch_bytes(const GemmCall& c, const MmaPlan& plan) {
  return plan.splits > 1 ? size_t(plan.splits * c.phases * c.rows() * c.padded_columns()) * sizeof(float) : 0;
}

const char* reject_mma(const GemmCall& c, DType type) {
  if (c.source[0].dtype != type) return type == DType::bf16 ? "A must be bf16" : "A must be f16";
  if (c.out.dtype != type && c.out.dtype != DType::f32) return "out must be of A's dtype or f32";
  for (const TensorView& x : c.source)
    if (!rows_of(8, x)) return "A's rows must be multiples of 8 channels, aligned to 16 bytes";
  return reject_gemm(c);
}

}  // namespace darkroom

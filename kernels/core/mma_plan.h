// How a gemm or conv2d is cut for tensor cores: the tile of a block, and in how many parts K is summed.
#pragma once

#include "kernels/core/gemm_call.h"

namespace darkroom {

inline constexpr int64_t kMmaBlock = 32;  // elements of K that are loaded at once

enum class MmaTile : uint8_t { huge, large, medium, small };
struct MmaTileShape {
  MmaTile tile;
  int64_t m, n;              // outputs of a block
  int64_t warps_m, warps_n;  // that share them
  int64_t resident;          // blocks of an SM, by registers and shared memory
};
inline constexpr MmaTileShape kMmaTiles[] = {{MmaTile::huge, 256, 128, 4, 2, 1},
                                             {MmaTile::large, 128, 128, 2, 2, 2},
                                             {MmaTile::medium, 128, 64, 2, 2, 3},
                                             {MmaTile::small, 64, 64, 2, 2, 3}};
const MmaTileShape& mma_tile_shape(MmaTile tile);

struct MmaPlan {
  MmaTile tile = MmaTile::large;
  int64_t splits = 1;  // of K, none of them empty
};

// The plan with the least modelled time. It follows from the shapes alone, not from the card, so that one plan gives the same
// bits on all.
MmaPlan mma_plan(const GemmCall& c);
// What a plan should take by gpu_model.h, in clocks: tiles, waves, tensor cores, shared memory and L2, the sums of splits.
double mma_clocks(const GemmCall& c, const MmaPlan& plan);
size_t mma_scratch_bytes(const GemmCall& c, const MmaPlan& plan);

// nullptr, or why tensor cores of `type` (bf16 or f16) cannot run it.
const char* reject_mma(const GemmCall& c, DType type);

namespace cuda {
// Launches it; in kernels/gemm/sm80_mma.cu.
void enqueue_mma(const GemmCall& c, const MmaPlan& plan, const void* packed, void* scratch, const Stream& stream);
}  // namespace cuda

}  // namespace darkroom

// How a gemm or conv2d is cut for tensor cores: the tile of a block, and in how many parts K is summed.
#pragma once

#include "kernels/core/gemm_call.h"

namespace darkroom {

inline constexpr int64_t kMmaBlock = 32;  // elements of K that are loaded at once

enum class MmaTile : uint8_t { large, medium, small };  // 128×128, 128×64, 64×64

struct MmaPlan {
  MmaTile tile = MmaTile::large;
  int64_t splits = 1;  // of K, none of them empty
};

// The plan with the least modelled time. It follows from the shapes alone, not from the card, so that one plan gives the same
// bits on all.
MmaPlan mma_plan(const GemmCall& c);
size_t mma_scratch_bytes(const GemmCall& c, const MmaPlan& plan);

// nullptr, or why tensor cores of `type` (bf16 or f16) cannot run it.
const char* reject_mma(const GemmCall& c, DType type);

namespace cuda {
// Launches it; in kernels/gemm/sm80_mma.cu.
void enqueue_mma(const GemmCall& c, const MmaPlan& plan, const void* packed, void* scratch, const Stream& stream);
}  // namespace cuda

}  // namespace darkroom

// gemm and conv2d for GPUs without tensor cores: launched from both ops, in kernels/gemm/sm80_fma.cu.
#pragma once

#include "kernels/core/gemm_call.h"

namespace darkroom {

inline constexpr int64_t kFmaBlock = 16;  // elements of K that are loaded at once; weights are packed in f32

// nullptr, or why it cannot run.
const char* reject_fma(const GemmCall& c);

namespace cuda {
void enqueue_fma(const GemmCall& c, const void* packed, const Stream& stream);
}  // namespace cuda

}  // namespace darkroom

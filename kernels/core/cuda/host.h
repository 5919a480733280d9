// What the host side of CUDA kernels asks of its operands.
#pragma once

#include <cstdint>

#include "kernels/core/dtype.h"

namespace darkroom::cuda {

inline bool is_aligned(const void* p, uintptr_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Blocks that take `each` of n items.
inline uint32_t blocks_for(int64_t n, int64_t each) { return uint32_t(ceil_div(n, each)); }

// Calls f with a value of the activation type that `type` names: by_type(view.dtype, [&]<typename T>(T) { … }).
template <typename F>
void by_type(DType type, F f) {
  if (type == DType::f32) f(float{});
  if (type == DType::bf16) f(bf16_t{});
  if (type == DType::f16) f(f16_t{});
}

}  // namespace darkroom::cuda

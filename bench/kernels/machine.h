// What this machine can do at most, measured at start: the numbers that every kernel is held against.
#pragma once

#include "kernels/core/dtype.h"
#include "runtime/thread_pool.h"

namespace darkroom::bench {

struct Machine {
  double flops = 0;       // f32 fused multiply-adds of all threads, ×2, a second
  double flops_bf16 = 0;  // of bf16 dot products (vdpbf16ps); `flops` where the CPU has none
  double bandwidth = 0;   // bytes read and written a second, streaming through memory
};

// Takes about a second. Keeps to active_isa(), as the kernels do.
Machine measure_machine(ThreadPool& pool);

// FLOPs a second of all threads at this moment, in products of f32 or bf16: takes a millisecond.
double peak_now(ThreadPool& pool, DType type);

}  // namespace darkroom::bench

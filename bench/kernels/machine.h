// What this machine can do at most, measured at start: the two numbers that every kernel is held against.
#pragma once

#include "runtime/thread_pool.h"

namespace darkroom::bench {

struct Machine {
  double flops = 0;      // f32 fused multiply-adds of all threads, ×2, a second
  double bandwidth = 0;  // bytes read and written a second, streaming through memory
};

// Takes about a second. On a CPU without AVX2 `flops` is that of SSE.
Machine measure_machine(ThreadPool& pool);

}  // namespace darkroom::bench

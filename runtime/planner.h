// Where in one arena each buffer lies: a pure function from sizes and lifetimes to offsets.
//
// Offline dynamic storage allocation is NP-hard; the largest live set bounds it from below. We place the buffers one by
// one, each into the smallest gap that holds it between those already placed that are alive with it, in several orders
// (large first, long first, ...), then let the buffers that stick out at the top go first and try again.
// Source: Pisarchyk, Lee, Efficient Memory Management for Deep Neural Net Inference (2020), "greedy by size".
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace darkroom {

inline constexpr size_t kArenaAlignment = 64;

// Alive from the beginning of step `first` to the end of step `last`, both included.
struct Buffer {
  size_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct MemoryPlan {
  std::vector<size_t> offset;  // per buffer, a multiple of kArenaAlignment
  size_t arena_bytes = 0;
  size_t lower_bound = 0;  // the largest sum of sizes alive in one step: no plan can be smaller
  size_t naive_bytes = 0;  // each buffer with memory of its own
  std::string_view order;  // the order that won
};

// Deterministic. Sizes count rounded up to kArenaAlignment. Throws internal_error where last < first or sizes overflow.
MemoryPlan plan_memory(std::span<const Buffer> buffers);

}  // namespace darkroom

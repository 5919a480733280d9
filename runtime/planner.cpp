#include "runtime/planner.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

size_t aligned(size_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

struct Placement {
  std::vector<size_t> offset;
  size_t bytes = 0;
};

// Which buffers are alive together; computed once, used by every order.
std::vector<std::vector<int>> find_neighbours(std::span<const Buffer> buffers) {
  std::vector<std::vector<int>> neighbours(buffers.size());
  std::vector<int> by_start(buffers.size());
  std::iota(by_start.begin(), by_start.end(), 0);
  std::stable_sort(by_start.begin(), by_start.end(),
                   [&](int a, int b) { return buffers[size_t(a)].first < buffers[size_t(b)].first; });
  std::vector<int> alive;
  for (int id : by_start) {
    std::erase_if(alive, [&](int other) { return buffers[size_t(other)].last < buffers[size_t(id)].first; });
    for (int other : alive) {
      neighbours[size_t(id)].push_back(other);
      neighbours[size_t(other)].push_back(id);
    }
    alive.push_back(id);
  }
  return neighbours;
}

// Each buffer in turn into the smallest gap that holds it, or on top of its neighbours.
Placement place(std::span<const Buffer> buffers, const std::vector<std::vector<int>>& neighbours,
                std::span<const int> order) {
  constexpr size_t kUnplaced = SIZE_MAX;
  Placement result;
  result.offset.assign(buffers.size(), kUnplaced);
  std::vector<std::pair<size_t, size_t>> taken;  // [begin, end) of the neighbours
  for (int id : order) {
    const size_t bytes = aligned(buffers[size_t(id)].bytes);
    taken.clear();
    for (int other : neighbours[size_t(id)]) {
      const size_t begin = result.offset[size_t(other)];
      if (begin != kUnplaced) taken.emplace_back(begin, begin + aligned(buffers[size_t(other)].bytes));
    }
    std::sort(taken.begin(), taken.end());
    size_t best = kUnplaced, best_gap = SIZE_MAX, end = 0;
    for (const auto& [from, to] : taken) {
      if (from > end && from - end >= bytes && from - end < best_gap) {
        best = end;
        best_gap = from - end;
      }
      end = std::max(end, to);
    }
    result.offset[size_t(id)] = best == kUnplaced ? end : best;
    result.bytes = std::max(result.bytes, result.offset[size_t(id)] + bytes);
  }
  return result;
}

// The largest sum of sizes that are alive in one step.
size_t largest_live_set(std::span<const Buffer> buffers) {
  std::vector<std::pair<int, int64_t>> events;  // frees before allocations of the same step: last is inclusive
  for (const Buffer& b : buffers) {
    events.emplace_back(b.first, int64_t(aligned(b.bytes)));
    events.emplace_back(b.last + 1, -int64_t(aligned(b.bytes)));
  }
  std::sort(events.begin(), events.end());
  int64_t live = 0, peak = 0;
  for (const auto& [step, change] : events) {
    live += change;
    peak = std::max(peak, live);
  }
  return size_t(peak);
}

}  // namespace

MemoryPlan plan_memory(std::span<const Buffer> buffers) {
  MemoryPlan plan;
  for (const Buffer& b : buffers) {
    if (b.last < b.first)
      throw internal_error("planner: a buffer dies in step {} before it is born in {}", b.last, b.first);
    if (b.bytes > size_t(INT64_MAX) - kArenaAlignment - plan.naive_bytes)
      throw internal_error("planner: the buffers' sizes overflow");
    plan.naive_bytes += aligned(b.bytes);
  }
  plan.lower_bound = largest_live_set(buffers);
  const auto neighbours = find_neighbours(buffers);

  const auto size = [&](int i) { return double(aligned(buffers[size_t(i)].bytes)); };
  const auto length = [&](int i) { return double(buffers[size_t(i)].last - buffers[size_t(i)].first + 1); };
  const auto start = [&](int i) { return double(buffers[size_t(i)].first); };

  std::vector<int> best_order;
  const auto attempt = [&](std::vector<int> order, std::string_view name) {
    Placement placed = place(buffers, neighbours, order);
    if (!plan.order.empty() && placed.bytes >= plan.arena_bytes) return false;
    plan.offset = std::move(placed.offset);
    plan.arena_bytes = placed.bytes;
    plan.order = name;
    best_order = std::move(order);
    return true;
  };
  const auto attempt_sorted = [&](std::string_view name, auto&& key, auto&& tie) {
    std::vector<int> order(buffers.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
      const double ka = key(a), kb = key(b);
      return ka != kb ? ka > kb : tie(a) > tie(b);
    });
    attempt(std::move(order), name);
  };
  attempt_sorted("size", size, length);
  attempt_sorted(
      "size x lifetime", [&](int i) { return size(i) * length(i); }, size);
  attempt_sorted("lifetime", length, size);
  attempt_sorted(
      "birth", [&](int i) { return -start(i); }, size);
  attempt_sorted(
      "death", [&](int i) { return start(i) + length(i); }, size);

  // What sticks out above the bound goes first, as long as that helps; a few tries suffice in practice.
  constexpr int kRounds = 24;
  std::vector<int> order = best_order;
  for (int round = 0; round < kRounds && plan.arena_bytes > plan.lower_bound; ++round) {
    const Placement placed = place(buffers, neighbours, order);
    const size_t top = std::max(plan.lower_bound, placed.bytes - placed.bytes / 16);
    std::stable_partition(order.begin(), order.end(),
                          [&](int i) { return placed.offset[size_t(i)] + aligned(buffers[size_t(i)].bytes) > top; });
    attempt(order, "top first");
  }
  return plan;
}

}  // namespace darkroom

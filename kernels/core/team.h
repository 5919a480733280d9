// The threads that run one kernel together (SPMD, as blocks of a GPU do): each calls launch() with its own Team.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace darkroom {

// Sense-reversing barrier. Spins for a little, then yields: teams are as large as the machine has cores.
class TeamBarrier {
 public:
  explicit TeamBarrier(int count) : count_(count) {}

  void wait() {
    if (count_ == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      phase_.notify_all();
      return;
    }
    for (int spin = 0; spin < kSpins; ++spin) {
      if (phase_.load(std::memory_order_acquire) != phase) return;
      __builtin_ia32_pause();
    }
    while (phase_.load(std::memory_order_acquire) == phase) phase_.wait(phase, std::memory_order_acquire);
  }

 private:
  static constexpr int kSpins = 4000;
  const int count_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

struct Team {
  int index = 0;
  int count = 1;
  TeamBarrier* barrier = nullptr;

  // All members must call it the same number of times.
  void sync() const {
    if (barrier) barrier->wait();
  }

  // This member's part [first, second) of n equal items: fixed, contiguous, at most one item apart in size.
  // What is computed for an item must not depend on which member does it.
  std::pair<int64_t, int64_t> range(int64_t n) const { return {n * index / count, n * (index + 1) / count}; }
};

}  // namespace darkroom

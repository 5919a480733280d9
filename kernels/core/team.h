// The threads that run one kernel together (SPMD, as blocks of a GPU do): each calls launch() with its own Team.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace darkroom {

// What members share: a sense-reversing barrier, and how many items each has had taken since (Items, below). Spins for a little, then
// yields: teams are as large as the machine has cores.
class TeamBarrier {
 public:
  explicit TeamBarrier(int count) : count_(count), taken_(std::make_unique<Taken[]>(size_t(count))) {}

  void wait() {
    if (count_ == 1) return;
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
      arrived_.store(0, std::memory_order_relaxed);
      restore_items();
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

  // How many were taken before of member `home`'s items.
  int64_t take(int home) { return taken_[size_t(home)].items.fetch_add(1, std::memory_order_relaxed); }
  // None is taken any more. Where nobody takes any meanwhile.
  void restore_items() {
    for (int i = 0; i < count_; ++i)
      if (std::atomic<int64_t>& items = taken_[size_t(i)].items; items.load(std::memory_order_relaxed) != 0)
        items.store(0, std::memory_order_relaxed);
  }

 private:
  struct alignas(64) Taken {
    std::atomic<int64_t> items{0};
  };
  static constexpr int kSpins = 4000;
  const int count_;
  const std::unique_ptr<Taken[]> taken_;
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

// n items of work, each taken by one member: those of its own range() in order, then what the others have not come to. Of two cores one
// may be three times as fast beside a neighbour of the other, and would wait for it.
// One set of items between two sync()s (the start and the end of a kernel count as such).
class Items {
 public:
  Items(const Team& team, int64_t n) : team_(team), n_(n) {}

  // The next item; n when none is left.
  int64_t take() {
    if (team_.count == 1) return next_ < n_ ? next_++ : n_;
    for (; visited_ < team_.count; ++visited_) {
      const Team home = {(team_.index + visited_) % team_.count, team_.count, nullptr};
      const auto [first, last] = home.range(n_);
      if (const int64_t item = first + team_.barrier->take(home.index); item < last) return item;
    }
    return n_;
  }

 private:
  const Team& team_;
  const int64_t n_;
  int64_t next_ = 0;
  int visited_ = 0;  // members whose items are all taken
};

}  // namespace darkroom

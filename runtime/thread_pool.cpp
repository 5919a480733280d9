#include "runtime/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <system_error>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

// Between two runs of a denoising loop lie microseconds: look for a while before going to sleep.
constexpr int kSpins = 4000;

template <typename T>
void wait_while(const std::atomic<T>& value, T old) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (value.load(std::memory_order_acquire) != old) return;
    __builtin_ia32_pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

int checked(int threads) {
  if (threads < 1 || threads > ThreadPool::kMaxThreads)
    throw usage_error("threads: {} is not between 1 and {}", threads, ThreadPool::kMaxThreads);
  return threads;
}

}  // namespace

int default_threads() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return std::max(1, CPU_COUNT(&mask));
  return std::max(1, int(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads) : count_(checked(threads)), barrier_(count_) {
  workers_.reserve(size_t(count_ - 1));
  try {
    for (int i = 1; i < count_; ++i) workers_.emplace_back([this, i] { work(i); });
  } catch (const std::system_error& e) {
    const size_t started = workers_.size();
    stop_.store(true);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& t : workers_) t.join();
    throw resource_error("thread {} of {} cannot be started ({}): use fewer --threads", started + 2, count_, e.what());
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& t : workers_) t.join();
}

void ThreadPool::start(Function function, void* context) {
  if (count_ == 1) {
    function(context, Team{0, 1, nullptr});
    return;
  }
  barrier_.restore_items();
  function_ = function;
  context_ = context;
  running_.store(count_ - 1, std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  function(context, Team{0, count_, &barrier_});
  for (int left; (left = running_.load(std::memory_order_acquire)) != 0;) wait_while(running_, left);
}

void ThreadPool::work(int index) {
  // Every worker sees every generation: the next run() begins only after all have finished this one.
  for (uint32_t seen = 0;;) {
    wait_while(generation_, seen);
    ++seen;
    if (stop_.load()) return;
    function_(context_, Team{index, count_, &barrier_});
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace darkroom

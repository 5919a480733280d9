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

// The cores that the calling thread may use.
cpu_set_t allowed_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) CPU_ZERO(&mask);
  return mask;
}

// Core i of the mask to member i where every core has a member; else none: the system has a choice, and other work to place.
std::vector<int> homes(const cpu_set_t& mask, int threads) {
  std::vector<int> cores;
  if (threads == 1 || CPU_COUNT(&mask) != threads) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &mask)) cores.push_back(core);
  return cores;
}

// Not being let is no error: the system then goes on choosing.
void stay_on(int core) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  CPU_SET(core, &mask);
  sched_setaffinity(0, sizeof mask, &mask);
}

int checked(int threads) {
  if (threads < 1 || threads > ThreadPool::kMaxThreads)
    throw usage_error("threads: {} is not between 1 and {}", threads, ThreadPool::kMaxThreads);
  return threads;
}

}  // namespace

int default_threads() {
  const cpu_set_t mask = allowed_cores();
  return std::max(1, CPU_COUNT(&mask) > 0 ? CPU_COUNT(&mask) : int(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads)
    : count_(checked(threads)), barrier_(count_), homes_(homes(allowed_cores(), threads)) {
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
  cpu_set_t before;
  if (!homes_.empty()) {
    before = allowed_cores();
    stay_on(homes_[0]);
  }
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  function(context, Team{0, count_, &barrier_});
  for (int left; (left = running_.load(std::memory_order_acquire)) != 0;) wait_while(running_, left);
  if (!homes_.empty()) sched_setaffinity(0, sizeof before, &before);
}

void ThreadPool::work(int index) {
  if (!homes_.empty()) stay_on(homes_[size_t(index)]);
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

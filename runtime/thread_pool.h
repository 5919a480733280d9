// A team of threads that stays: each runs the same function with its own place in the team, as the blocks of a GPU do.
//
// Where it has as many members as the process has cores, each member stays on a core of its own; the caller of run() as long as that
// takes. Left to Linux, two members that wake beside another busy thread may share a core for tens of milliseconds, the other idle.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

#include "kernels/core/team.h"

namespace darkroom {

// The cores that this process may use (its affinity mask): the default of --threads.
int default_threads();

class ThreadPool {
 public:
  // `threads` members, the caller of run() included, so threads − 1 are started.
  // Throws usage_error where `threads` is not 1 to kMaxThreads, resource_error where one cannot be started.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  static constexpr int kMaxThreads = 1024;

  int size() const { return count_; }

  // Calls job(team) once per member and returns when all have. Neither allocates nor throws; the job must not throw.
  // One run() at a time, never from within a job.
  template <typename Job>
  void run(Job&& job) {
    start([](void* context, const Team& team) { (*static_cast<std::remove_reference_t<Job>*>(context))(team); }, &job);
  }

 private:
  using Function = void (*)(void* context, const Team& team);

  void start(Function function, void* context);
  void work(int index);

  const int count_;
  TeamBarrier barrier_;
  const std::vector<int> homes_;  // by member, its core; empty: the system chooses
  Function function_ = nullptr;   // published by generation_
  void* context_ = nullptr;
  alignas(64) std::atomic<uint32_t> generation_{0};  // counts run()s
  alignas(64) std::atomic<int> running_{0};          // workers that have not finished this run()
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace darkroom

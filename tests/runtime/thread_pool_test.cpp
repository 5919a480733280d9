#include "runtime/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "kernels/core/error.h"

namespace darkroom {
namespace {

TEST(ThreadPool, EveryMemberRunsOnceAndSynchronises) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    std::vector<int> first(size_t(threads), 0), second(size_t(threads), 0);
    for (int round = 1; round <= 200; ++round) {
      pool.run([&](const Team& team) {
        first[size_t(team.index)] = round;
        team.sync();
        for (int other : first) second[size_t(team.index)] += other == round;
        team.sync();
      });
    }
    for (int sum : second) EXPECT_EQ(sum, 200 * threads);
  }
}

// As many members as cores: each has one of its own, and the caller may go where it likes again afterwards.
TEST(ThreadPool, MembersStayOnCoresOfTheirOwn) {
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  ThreadPool pool(default_threads());
  for (int round = 0; round < 20; ++round) {
    std::vector<int> cores(size_t(pool.size()));
    std::vector<int> allowed(cores.size());
    pool.run([&](const Team& team) {
      cpu_set_t mask;
      sched_getaffinity(0, sizeof mask, &mask);
      allowed[size_t(team.index)] = CPU_COUNT(&mask);
      cores[size_t(team.index)] = sched_getcpu();
    });
    EXPECT_EQ(std::set<int>(cores.begin(), cores.end()).size(), cores.size());
    for (int n : allowed) EXPECT_EQ(n, 1);
  }
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST(ThreadPool, TeamsOfAnotherSizeAreLeftToTheSystem) {
  const int threads = default_threads() + 1;
  ThreadPool pool(threads);
  std::vector<int> allowed(size_t(threads), 0);
  pool.run([&](const Team& team) {
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    allowed[size_t(team.index)] = CPU_COUNT(&mask);
  });
  for (int n : allowed) EXPECT_EQ(n, default_threads());
}

TEST(Items, EachIsTakenOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int64_t n : {0, 1, 3, 64}) {
      std::vector<std::atomic<int>> taken(size_t(n) + 1);
      pool.run([&](const Team& team) {
        for (int set = 0; set < 3; ++set) {
          Items items(team, n);
          for (int64_t item; (item = items.take()) < n;) ++taken[size_t(item)];
          EXPECT_EQ(items.take(), n);
          team.sync();
        }
      });
      for (int64_t i = 0; i < n; ++i) EXPECT_EQ(taken[size_t(i)], 3) << i << " of " << n << ", " << threads;
    }
  }
}

// A member that stays with its first item leaves its others to the second, which does its own before.
TEST(Items, OfASlowMemberAreTakenByTheOthers) {
  ThreadPool pool(2);
  std::vector<int64_t> order;
  int64_t first = -1, last = -1;
  std::atomic<bool> begun{false}, taken{false};
  pool.run([&](const Team& team) {
    Items items(team, 8);
    if (team.index == 0) {
      first = items.take();
      begun = true;
      while (!taken) std::this_thread::yield();
      last = items.take();
    } else {
      while (!begun) std::this_thread::yield();
      for (int64_t item; (item = items.take()) < 8;) order.push_back(item);
      taken = true;
    }
  });
  EXPECT_EQ(first, 0);
  EXPECT_EQ(order, (std::vector<int64_t>{4, 5, 6, 7, 1, 2, 3}));
  EXPECT_EQ(last, 8);
}

TEST(ThreadPool, RefusesNoThreads) { EXPECT_THROW(ThreadPool(0), Error); }

}  // namespace
}  // namespace darkroom

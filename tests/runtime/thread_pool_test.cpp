#include "runtime/thread_pool.h"

#include <gtest/gtest.h>

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

TEST(ThreadPool, RefusesNoThreads) { EXPECT_THROW(ThreadPool(0), Error); }

}  // namespace
}  // namespace darkroom

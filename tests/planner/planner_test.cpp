#include "runtime/planner.h"

#include <gtest/gtest.h>

#include <random>

#include "kernels/core/error.h"

namespace darkroom {
namespace {

TEST(Planner, RandomLifetimesNeverOverlap) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 200; ++trial) {
    const int steps = 1 + int(random() % 60);
    std::vector<Buffer> buffers(1 + random() % 80);
    for (Buffer& b : buffers) {
      b.bytes = 1 + random() % 100000;
      b.first = int(random() % unsigned(steps));
      b.last = std::min(steps - 1, b.first + int(random() % 12));
    }
    const MemoryPlan plan = plan_memory(buffers);
    ASSERT_EQ(plan.offset.size(), buffers.size());
    EXPECT_GE(plan.arena_bytes, plan.lower_bound);
    EXPECT_LE(plan.arena_bytes, plan.naive_bytes);
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(plan.offset[i] % kArenaAlignment, 0u);
      EXPECT_LE(plan.offset[i] + buffers[i].bytes, plan.arena_bytes);
      for (size_t j = 0; j < i; ++j) {
        const bool together = buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
        const bool apart =
            plan.offset[i] + buffers[i].bytes <= plan.offset[j] || plan.offset[j] + buffers[j].bytes <= plan.offset[i];
        EXPECT_TRUE(!together || apart) << "buffers " << i << " and " << j << " of trial " << trial;
      }
    }
  }
}

TEST(Planner, AChainNeedsTwoBuffers) {
  std::vector<Buffer> chain;
  for (int i = 0; i < 10; ++i) chain.push_back({1024, i, i + 1});
  const MemoryPlan plan = plan_memory(chain);
  EXPECT_EQ(plan.arena_bytes, 2048u);
  EXPECT_EQ(plan.lower_bound, 2048u);
  EXPECT_EQ(plan.naive_bytes, 10240u);
}

TEST(Planner, RefusesALifetimeThatEndsBeforeItBegins) {
  const std::vector<Buffer> buffers = {{64, 3, 2}};
  EXPECT_THROW(plan_memory(buffers), Error);
}

}  // namespace
}  // namespace darkroom

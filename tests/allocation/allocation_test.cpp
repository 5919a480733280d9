// A step of the denoising loop allocates nothing: every allocator that a C++ program has is replaced by one that counts.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "model/loop.h"
#include "tests/support/graph_run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DARKROOM_COUNTS_ALLOCATIONS 0  // the sanitizers replace the allocator themselves
#else
#define DARKROOM_COUNTS_ALLOCATIONS 1

namespace {
std::atomic<long> allocations{0};
}

extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier): glibc's own names.
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
// NOLINTEND(bugprone-reserved-identifier)

// operator new comes here too.
void* malloc(size_t n) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(n);
}
void* calloc(size_t n, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(n, size);
}
void* realloc(void* p, size_t n) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(p, n);
}
void* aligned_alloc(size_t alignment, size_t n) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, n);
}
}
#endif

namespace darkroom::testing {
namespace {

TEST(Allocation, NoneInAStepOfTheLoop) {
#if !DARKROOM_COUNTS_ALLOCATIONS
  GTEST_SKIP() << "a sanitizer owns the allocator";
#else
  UNetConfig config;
  config.block_out_channels = {16, 32};
  config.down_attention = {true, false};
  config.up_attention = {false, true};
  config.layers_per_block = {1, 1};
  config.num_attention_heads = {2, 4};
  config.transformer_layers_per_block = {1, 1};
  config.cross_attention_dim = 24;
  config.norm_num_groups = 8;
  NamedWeights weights;
  weights.add(build_unet(config, {2, 8, 8, 11, DType::f32}));
  SessionOptions options;
  options.threads = 2;
  Session session(weights, options);
  Loop loop(session, config, {2, 8, 8, 11, DType::f32});
  Conditioning conditioning;
  conditioning.context.resize(2 * 11 * 24, 0.1f);
  SamplerOptions sampler;
  sampler.sampler = "euler_a";
  sampler.steps = 3;
  const SamplerProgram program = make_program({}, sampler);
  LoopRequest request;
  request.program = &program;
  request.conditioning = &conditioning;
  request.guided_calls = 2;  // the third runs alone
  request.guidance = 7.5f;
  request.latents.assign(8 * 8 * 4, 0.5f);
  loop.begin(request);
  const std::vector<float> noise(request.latents);
  const auto step = [&] {
    loop.write_noise(noise);
    loop.run();
  };
  const long begin = allocations.load();
  {
    std::vector<float> counted(1000);
    ASSERT_EQ(counted.size(), 1000u);
  }
  ASSERT_GT(allocations.load(), begin) << "the counter does not count";
  step();
  const long before = allocations.load();
  step();
  step();
  EXPECT_EQ(allocations.load() - before, 0);
#endif
}

}  // namespace
}  // namespace darkroom::testing

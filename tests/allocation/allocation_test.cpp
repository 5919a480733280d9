// A step of the denoising loop allocates nothing: every allocator that a C++ program has is replaced by one that counts.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "model/denoiser.h"
#include "model/latent_ops.h"
#include "tests/support/graph_run.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DARKROOM_COUNTS_ALLOCATIONS 0  // the sanitizers replace the allocator themselves
#else
#define DARKROOM_COUNTS_ALLOCATIONS 1

namespace {
std::atomic<long> allocations{0};
}

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

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
  Denoiser denoiser(session, config, {2, 8, 8, 11, DType::f32});
  Conditioning conditioning;
  conditioning.context.resize(2 * 11 * 24, 0.1f);
  denoiser.prepare(conditioning, {900, 500, 100});
  std::vector<float> sample(2 * 8 * 8 * 4, 0.5f), out(sample.size());
  denoiser.bind(sample.data(), out.data());
  LatentOps ops(session, 8 * 8 * 4);
  const auto step = [&](size_t i) {
    denoiser.run(i);
    float* const halves[] = {out.data(), out.data() + 256};
    const float mix[] = {-6.5f, 7.5f};
    ops.combine(mix, halves, sample.data());
  };
  const long begin = allocations.load();
  {
    std::vector<float> counted(1000);
    ASSERT_EQ(counted.size(), 1000u);
  }
  ASSERT_GT(allocations.load(), begin) << "the counter does not count";
  step(0);
  const long before = allocations.load();
  step(1);
  step(2);
  EXPECT_EQ(allocations.load() - before, 0);
#endif
}

}  // namespace
}  // namespace darkroom::testing

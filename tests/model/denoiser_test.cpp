// The UNet as the loop runs it, and the savings that change its result.
#include "model/denoiser.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/graph_run.h"

namespace darkroom::testing {
namespace {

UNetConfig config() {
  UNetConfig c;
  c.block_out_channels = {16, 32};
  c.down_attention = {true, false};
  c.up_attention = {false, true};
  c.layers_per_block = {1, 1};
  c.num_attention_heads = {2, 4};
  c.transformer_layers_per_block = {1, 1};
  c.cross_attention_dim = 24;
  c.norm_num_groups = 8;
  c.use_linear_projection = true;
  return c;
}

constexpr int64_t kSide = 12, kTokens = 7, kChannels = 4;
constexpr size_t kLatents = size_t(kSide * kSide * kChannels);

std::vector<float> normal(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> x(n);
  for (float& v : x) v = distribution(generator);
  return x;
}

// The predictions of the calls at `times`, each on latents of its own.
std::vector<std::vector<float>> run(int reuse, const std::vector<double>& times,
                                    const std::vector<std::vector<float>>& latents) {
  UNetGraphOptions options;
  options.height = options.width = kSide;
  options.tokens = kTokens;
  options.shared_sample = true;
  NamedWeights weights;
  weights.add(build_unet(config(), options));
  SessionOptions session_options;
  session_options.threads = 2;
  Session session(weights, session_options);
  Denoiser denoiser(session, config(), options, reuse);
  denoiser.prepare({normal(size_t(2 * kTokens * config().cross_attention_dim), 1), {}, {}, {}}, times);
  std::vector<float> sample(kLatents), out(2 * kLatents);
  denoiser.bind(sample.data(), out.data());
  std::vector<std::vector<float>> all;
  for (size_t i = 0; i < times.size(); ++i) {
    sample = latents[i];
    denoiser.bind(sample.data(), out.data());
    out.assign(out.size(), NAN);
    denoiser.run(i);
    all.push_back(out);
  }
  return all;
}

TEST(ReuseDeep, TheSameCallTwiceGivesTheSameBits) {
  const std::vector<float> x = normal(kLatents, 2);
  const auto calls = run(/*reuse=*/2, {500, 500}, {x, x});
  EXPECT_EQ(calls[0], calls[1]);
  EXPECT_EQ(calls[0], run(1, {500}, {x})[0]);
}

// What a reused call is off by shrinks with the distance that the latents and the time have gone since.
TEST(ReuseDeep, OneInNIsExactAndTheOthersAreNear) {
  const auto error_after = [](float way) {
    std::vector<std::vector<float>> latents = {normal(kLatents, 2), {}, {}};
    for (size_t i = 1; i < latents.size(); ++i) {
      latents[i] = latents[i - 1];
      const std::vector<float> step = normal(kLatents, uint32_t(10 + i));
      for (size_t k = 0; k < kLatents; ++k) latents[i][k] += 0.05f * way * step[k];
    }
    const std::vector<double> times = {500, 500 - 20.0 * way, 500 - 40.0 * way};
    const auto reused = run(2, times, latents), exact = run(1, times, latents);
    EXPECT_EQ(reused[0], exact[0]);
    EXPECT_EQ(reused[2], exact[2]);
    return relative_l2(reused[1], exact[1]);
  };
  // Small ways: the fastest sinusoid of the time embedding turns once in 6.3 units of time.
  const double far = error_after(0.02f), near = error_after(0.005f);
  EXPECT_GT(near, 1e-6) << "the shallow call was not made";
  EXPECT_LT(near, 0.5 * far);
  EXPECT_LT(far, 0.1);
}

}  // namespace
}  // namespace darkroom::testing

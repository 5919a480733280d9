// Each pass alone, all together and none: the same result. And each pass finds what it is there for.
#include "runtime/fusion.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/core/error.h"
#include "model/clip.h"
#include "model/unet.h"
#include "model/vae.h"
#include "tests/support/graph_run.h"

namespace darkroom::testing {
namespace {

UNetConfig small_unet(bool linear) {
  UNetConfig c = small_unet_config();
  c.use_linear_projection = linear;
  return c;
}

Graph unet(bool linear, DType dtype = DType::f32, int64_t batch = 2) {
  UNetGraphOptions options;
  options.batch = batch;
  options.height = 9;  // odd: the upsample is not twice
  options.width = 6;
  options.tokens = 11;
  options.dtype = dtype;
  return build_unet(small_unet(linear), options);
}

// As guidance runs it: both samples begin with the same latents.
Graph guided_unet() {
  UNetGraphOptions options;
  options.height = 9;
  options.width = 6;
  options.tokens = 11;
  options.shared_sample = true;
  return build_unet(small_unet(true), options);
}

Graph decoder() {
  VaeConfig config;
  config.block_out_channels = {16, 16, 32};
  config.layers_per_block = 1;
  config.norm_num_groups = 8;
  VaeGraphOptions options;
  options.height = options.width = 5;
  return build_vae_decoder(config, options);
}

Graph text() {
  ClipTextConfig config;
  config.vocab_size = 100;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.num_attention_heads = 4;
  config.num_hidden_layers = 2;
  ClipGraphOptions options;
  options.pooled = true;
  return build_clip(config, "text_encoder", options);
}

DisabledPasses all_passes() {
  DisabledPasses names;
  for (const FusionPass& pass : fusion_passes()) names.insert(std::string(pass.name));
  return names;
}

int count_of(std::string_view pass, const std::vector<PassReport>& report) {
  for (const PassReport& r : report)
    if (r.name == pass) return r.count;
  return -1;
}

// The whole graph by primitive ops alone, by ref alone: what every fused run is held against.
Named expected(const Graph& graph, const WeightSource& weights, const Named& inputs) {
  Graph plain = graph;
  run_fusion(plain, all_passes());
  PlanOptions options;
  options.isa = Isa::baseline;
  return run_graph(plain, weights, inputs, options);
}

class Fusion : public ::testing::TestWithParam<std::string_view> {};

TEST_P(Fusion, OnAndOffGiveTheSame) {
  const std::string pass(GetParam());
  for (const Graph& graph : {unet(false), unet(true), guided_unet(), decoder(), text()}) {
    SCOPED_TRACE(graph.name());
    NamedWeights weights;
    weights.add(graph);
    const Named inputs = random_inputs(graph), reference = expected(graph, weights, inputs);
    DisabledPasses only = all_passes(), without;
    only.erase(pass);
    without.insert(pass);
    for (const DisabledPasses& disabled : {only, without, DisabledPasses{}}) {
      Graph fused = graph;
      run_fusion(fused, disabled);
      for (int threads : {1, 2}) {
        PlanOptions options;
        options.threads = threads;
        for (const auto& [name, values] : run_graph(fused, weights, inputs, options)) {
          const double error = relative_l2(values, reference.at(name));
          if (!(error < 1e-5)) ADD_FAILURE() << name << ": " << error << " with " << disabled.size() << " passes off";
        }
      }
    }
  }
}

std::vector<std::string_view> names() {
  std::vector<std::string_view> all;
  for (const FusionPass& pass : fusion_passes()) all.push_back(pass.name);
  return all;
}
INSTANTIATE_TEST_SUITE_P(Pass, Fusion, ::testing::ValuesIn(names()),
                         [](const auto& info) { return std::string(info.param); });

TEST(FusionCounts, EveryPassFindsItsOps) {
  Graph graph = unet(true);
  const size_t before = graph.nodes().size();
  const std::vector<PassReport> report = run_fusion(graph, {"concat_in_place"});
  EXPECT_EQ(count_of("group_norm_silu", report), 8 * 2 + 1);  // two a resnet, and the last
  EXPECT_EQ(count_of("packed_qkv", report), 8);  // 4 transformers: self-attention, and K with V of cross-attention
  EXPECT_EQ(count_of("geglu", report), 4);
  EXPECT_EQ(count_of("two_sources", report), 4);  // one skip a resnet on the way up
  EXPECT_EQ(count_of("upsample_conv", report), 1);
  EXPECT_LT(graph.nodes().size(), before * 2 / 3);
  for (const Node& node : graph.nodes()) {
    EXPECT_NE(node.kind(), OpKind::concat) << node.name;
    EXPECT_NE(node.kind(), OpKind::add) << node.name;
    if (node.kind() == OpKind::group_norm_silu) {
      EXPECT_GE(node.provenance.size(), 2u) << node.name;
    }
  }
}

// The fusion follows the kernel: it is made where the one that runs the convolution alone can take the norm with it.
TEST(FusionCounts, NormGoesIntoWinogradConvolutionsAlone) {
  if (detected_isa() < Isa::avx2) GTEST_SKIP() << "no kernel takes a norm";
  for (const bool winograd : {true, false}) {
    Graph graph = decoder();
    SelectOptions kernels;
    kernels.isa = Isa::avx2;
    kernels.exact = !winograd;
    const std::vector<PassReport> report = run_fusion(graph, {}, kernels);
    int normed = 0;
    for (const Node& node : graph.nodes()) normed += node.kind() == OpKind::norm_conv2d;
    EXPECT_EQ(count_of("norm_conv", report) > 0, winograd);
    EXPECT_EQ(normed > 0, winograd);
  }
}

// A norm of two sources, the second of them what another convolution stored, or an input.
Graph norm_of_two(bool both_stored) {
  Graph graph("two", DType::f32);
  const ValueId x = graph.input("x", {2, 18, 19, 16}, DType::f32), y = graph.input("y", {2, 18, 19, 24}, DType::f32);
  const auto conv = [&](const std::string& name, ValueId from, int64_t channels) {
    const int64_t c = graph.shape(from).channels();
    return graph.add(name, Conv2dAttrs{}, {from, kNoValue, graph.weight(name + ".weight", {channels, c, 3, 3})});
  };
  const ValueId whole = graph.add("concat", ConcatAttrs{}, {conv("a", x, 32), both_stored ? conv("b", y, 24) : y});
  const ValueId gamma = graph.weight("norm.weight", {56}), beta = graph.weight("norm.bias", {56});
  GroupNormAttrs norm;
  norm.groups = 8;  // one of them lies in both sources
  graph.output("out", conv("c", graph.add("norm", norm, {whole, kNoValue, gamma, beta}), 16));
  return graph;
}

TEST(FusionCounts, MomentsOfBothSourcesOrNone) {
  if (detected_isa() < Isa::avx2) GTEST_SKIP() << "no kernel leaves moments";
  for (const bool both : {true, false}) {
    Graph graph = norm_of_two(both), fused = graph, without = graph;
    EXPECT_EQ(count_of("conv_moments", run_fusion(fused, {})), both);
    run_fusion(without, {"conv_moments"});
    EXPECT_EQ(fused.values().size(), without.values().size() + (both ? 2 : 0));
    int left = 0;
    for (const Node& node : fused.nodes()) left += node.moments != kNoValue;
    EXPECT_EQ(left, both ? 2 : 0);
    NamedWeights weights;
    weights.add(graph);
    const Named inputs = random_inputs(graph), reference = expected(graph, weights, inputs);
    EXPECT_LT(relative_l2(run_graph(fused, weights, inputs).at("out"), reference.at("out")), 1e-5);
  }
}

// Moments are left where the kernels that would run can do it, and stay until they are read.
TEST(FusionCounts, MomentsComeFromConvolutionsThatCanLeaveThem) {
  if (detected_isa() < Isa::avx2) GTEST_SKIP() << "no kernel leaves moments";
  for (const bool winograd : {true, false}) {
    Graph graph = unet(false);
    PlanOptions options;
    options.isa = Isa::avx2;
    options.exact = !winograd;
    const std::vector<PassReport> report = run_fusion(graph, {}, options);
    EXPECT_EQ(count_of("conv_moments", report) > 0, winograd);
    NamedWeights weights;
    weights.add(graph);
    const std::unique_ptr<Backend> backend = make_cpu_backend(1);
    WeightStore(weights, *backend).resolve(graph);
    const Plan plan = make_plan(graph, options);
    int norms = 0;
    for (size_t n = 0; n < graph.nodes().size(); ++n) {
      const Node& node = graph.nodes()[n];
      if (node.moments != kNoValue) {
        const Placement& p = plan.placements[size_t(node.moments)];
        EXPECT_EQ(p.place, Place::arena) << node.name;
        EXPECT_EQ(p.first, int(n)) << node.name;
        EXPECT_GT(p.last, int(n)) << node.name;
        EXPECT_GE(node.provenance.size(), 2u) << node.name;
      }
      if (node.kind() != OpKind::group_norm && node.kind() != OpKind::group_norm_silu &&
          node.kind() != OpKind::group_norm_stats)
        continue;
      for (const auto& [source, slot] : {std::pair(GroupNormAttrs::kX, GroupNormAttrs::kMoments),
                                         std::pair(GroupNormAttrs::kX2, GroupNormAttrs::kMoments2)}) {
        const ValueId moments = node.inputs[size_t(slot)];
        if (moments == kNoValue) continue;
        const Node& producer = graph.nodes()[size_t(graph.value(moments).producer)];
        EXPECT_EQ(producer.moments, moments) << node.name;
        EXPECT_EQ(producer.output, node.inputs[size_t(source)]) << node.name;
        norms += source == GroupNormAttrs::kX;
      }
    }
    EXPECT_EQ(norms, count_of("conv_moments", report));
  }
}

// What a norm takes from moments is what it would find by itself, but for the last bits.
TEST(FusionCounts, MomentsChangeRoundingsAlone) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Graph with = unet(true, dtype), without = with;
    const std::vector<PassReport> report = run_fusion(with, {});
    run_fusion(without, {"conv_moments"});
    NamedWeights weights;
    weights.add(with);
    const Named inputs = random_inputs(with);
    const std::vector<float> a = run_graph(with, weights, inputs).at("noise_pred");
    const std::vector<float> b = run_graph(without, weights, inputs).at("noise_pred");
    EXPECT_LT(relative_l2(a, b), dtype == DType::f32 ? 1e-5 : 1e-2) << dtype_name(dtype);
    if (dtype == DType::f32) {
      EXPECT_EQ(a == b, count_of("conv_moments", report) == 0);
    }
  }
}

TEST(FusionCounts, MomentsOfAnotherShapeAreNoGraph) {
  if (detected_isa() < Isa::avx2) GTEST_SKIP() << "no kernel leaves moments";
  Graph graph = decoder();
  run_fusion(graph, {});
  for (const Node& node : graph.nodes()) {
    if (node.moments == kNoValue) continue;
    graph.mutable_values()[size_t(node.moments)].shape[3] += 1;
    EXPECT_THROW(graph.check(), Error);
    return;
  }
  FAIL() << "no node leaves moments";
}

TEST(FusionCounts, ConcatInPlaceLeavesNoCopy) {
  Graph graph = unet(false);
  const std::vector<PassReport> report = run_fusion(graph, {"two_sources"});
  EXPECT_EQ(count_of("concat_in_place", report), 4);
  for (const Node& node : graph.nodes()) EXPECT_NE(node.kind(), OpKind::concat) << node.name;
}

TEST(FusionNames, UnknownIsRefusedByName) {
  try {
    check_pass_name("no_such_pass");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::usage);
    EXPECT_NE(std::string(e.what()).find("group_norm_silu"), std::string::npos);
  }
}

// What a hoisted graph computes, handed to the rest, gives the whole graph's result, to the bit.
TEST(Hoist, PromptAndSchedulePartsAreTheSameBits) {
  Graph graph = unet(true);
  run_fusion(graph, {});
  NamedWeights weights;
  weights.add(unet(true));
  Named inputs = random_inputs(graph);
  const Named whole = run_graph(graph, weights, inputs);

  Graph rest = graph;
  const std::string_view prompt[] = {"context"}, schedule[] = {"timestep"};
  const Graph text = hoist(rest, prompt, "prompt"), time = hoist(rest, schedule, "schedule");
  EXPECT_EQ(text.outputs().size(), 4u);  // K and V of each cross-attention
  EXPECT_EQ(time.outputs().size(), 8u);  // the time embedding of each resnet
  for (const Value& v : rest.values())
    if (v.kind == ValueKind::input) {
      EXPECT_NE(v.name, "timestep");
    }
  Named given = inputs;
  given.merge(run_graph(text, weights, inputs));
  given.merge(run_graph(time, weights, inputs));
  EXPECT_EQ(run_graph(rest, weights, given), whole);
}

// The shared prefix: the bits of the batch that computes it twice, and one sample's work up to the first cross-attention.
TEST(SharedSamples, TheSameBitsAsApart) {
  Graph shared = guided_unet(), apart = unet(true);
  NamedWeights weights;
  weights.add(apart);
  Named inputs = random_inputs(shared), twice = inputs;
  for (const char* name : {"sample", "timestep"})
    twice[name].insert(twice[name].end(), inputs[name].begin(), inputs[name].end());
  const std::vector<PassReport> report = run_fusion(shared, {});
  run_fusion(apart, {});
  EXPECT_GT(count_of("shared_samples", report), 10);
  const Named one = run_graph(shared, weights, inputs);
  EXPECT_EQ(one, run_graph(apart, weights, twice));
  for (const Node& node : shared.nodes()) {
    if (node.name == "down_blocks.0.attentions.0.transformer_blocks.0.attn1.attention") {
      EXPECT_EQ(shared.shape(node.output)[0], 1);
    }
    if (node.name == "down_blocks.0.attentions.0.transformer_blocks.0.attn2.attention") {
      EXPECT_EQ(shared.shape(node.output)[0], 2);
    }
  }
}

TEST(SameBytes, BatchDoesNotChangeASample) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    Graph two = unet(false, dtype, 2), one = unet(false, dtype, 1);
    NamedWeights weights;
    weights.add(two);
    Named inputs = random_inputs(two), first;
    for (const auto& [name, values] : inputs)
      first[name] = {values.begin(), values.begin() + std::ptrdiff_t(values.size() / 2)};
    run_fusion(two, {});
    run_fusion(one, {});
    const std::vector<float> both = run_graph(two, weights, inputs).at("noise_pred");
    const std::vector<float> alone = run_graph(one, weights, first).at("noise_pred");
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), both.begin())) << dtype_name(dtype);
  }
}

TEST(Bf16, StaysNearF32) {
  Graph f32 = unet(true), bf16 = unet(true, DType::bf16);
  NamedWeights weights;
  weights.add(f32);
  const Named inputs = random_inputs(f32);
  run_fusion(bf16, {});
  const double error =
      relative_l2(run_graph(bf16, weights, inputs).at("noise_pred"), expected(f32, weights, inputs).at("noise_pred"));
  EXPECT_LT(error, 3e-2);
  EXPECT_GT(error, 1e-5) << "bf16 did not round: was it run?";
}

}  // namespace
}  // namespace darkroom::testing

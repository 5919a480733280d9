// Every layer of SD 1.5, 2.1 and XL through every kernel: the fused graphs' own calls, at a small picture size, with the
// widths (K, groups, heads, head dims) of the real networks. What a layer computes many times over is cut: output channels
// to three panels and a tail, the vocabulary to a hundred words.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "model/network_graphs.h"
#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

constexpr int64_t kFewChannels = 48, kFewWords = 100;

// Few output channels, with the same tail in a panel of 16; both halves of GEGLU alike.
int64_t cut(int64_t channels, bool geglu) {
  const int64_t half = geglu ? channels / 2 : channels;
  const int64_t few = half > kFewChannels + 16 ? kFewChannels + half % 16 : half;
  return geglu ? 2 * few : few;
}

Shape with_channels(const Shape& shape, int64_t channels) {
  Shape s = shape;
  s[s.rank() - 1] = channels;
  return s;
}

// The output channels of gemm and conv2d; 0 for other ops.
int64_t output_channels(const Graph& graph, const Node& node) {
  if (node.kind() == OpKind::gemm) return graph.shape(node.inputs[GemmAttrs::kWeight])[0];
  if (node.kind() == OpKind::conv2d || node.kind() == OpKind::norm_conv2d)
    return graph.shape(node.inputs[Conv2dAttrs::kWeight])[0];
  return 0;
}

bool is_geglu(const Node& node) {
  if (const auto* a = std::get_if<GemmAttrs>(&node.attrs)) return a->epilogue.geglu;
  if (const auto* a = std::get_if<Conv2dAttrs>(&node.attrs)) return a->epilogue.geglu;
  return false;
}

// The operands of a node, filled. Logits stay of order 1, sums of K products too.
CallMemory make_call(const Graph& graph, const Node& node) {
  CallMemory call(node.attrs);
  const OpDef& op = op_def(node.kind());
  const int64_t channels = output_channels(graph, node), few = cut(channels, is_geglu(node));
  for (int slot = 0; slot < op.inputs && slot < int(node.inputs.size()); ++slot) {
    const ValueId id = node.inputs[size_t(slot)];
    if (id == kNoValue) continue;
    Shape shape = graph.shape(id);
    const DType dtype = graph.value(id).dtype;
    float deviation = 1, mean = 0;
    if (op.role(slot) == SlotRole::packed) {
      const int64_t depth = shape.elements() / shape[0];
      deviation = 1 / std::sqrt(float(depth));
      shape[0] = few;
    } else if (op.role(slot) == SlotRole::table) {
      shape[0] = std::min(shape[0], kFewWords);
    } else if (channels != 0 && slot != 0 && node.kind() != OpKind::gemm &&
               (slot == Conv2dAttrs::kX2 || slot == NormConv2dAttrs::kNorm)) {
      // As wide as the input.
    } else if (channels != 0 && slot != 0) {
      shape = with_channels(shape, shape.channels() == channels ? few : cut(channels, is_geglu(node)) / 2);
    }
    if (dtype == DType::i32) deviation = float(std::min<int64_t>(kFewWords, 77));
    if (node.kind() == OpKind::timestep_embedding) deviation = 300, mean = 500;
    call.fill(slot, shape, dtype, deviation, mean,
              op.role(slot) == SlotRole::activation && dtype != DType::i32 ? 8 : 0);
  }
  call.set_output(graph.value(node.output).dtype, 8);
  return call;
}

std::string key_of(const Graph& graph, const Node& node) {
  std::string key(op_def(node.kind()).name);
  std::vector<TensorView> views(kMaxInputs);
  for (size_t slot = 0; slot < node.inputs.size(); ++slot)
    if (node.inputs[slot] != kNoValue) views[slot] = graph.view(node.inputs[slot]);
  key += " " + describe(node.attrs, views);
  for (const TensorView& v : views)
    if (v.present()) key += " " + v.shape.to_string() + std::string(dtype_name(v.dtype));
  return key + " to " + graph.shape(node.output).to_string();
}

class RealLayers : public ::testing::TestWithParam<std::tuple<const char*, DType>> {};

TEST_P(RealLayers, AgreeWithRef) {
  const auto& [family, dtype] = GetParam();
  std::set<std::string> seen;
  const NetworkGraphOptions options = {.batch = 2, .unet_size = 8, .vae_size = 2, .dtype = dtype};
  for (const Graph& graph : family_graphs(family, options))
    for (const Node& node : graph.nodes()) {
      const std::string key = key_of(graph, node);
      if (!seen.insert(key).second) continue;
      SCOPED_TRACE(graph.name() + " " + node.name + ": " + key);
      expect_kernels_agree(make_call(graph, node), node.kind());
    }
  EXPECT_GT(seen.size(), 60u);
}

INSTANTIATE_TEST_SUITE_P(All, RealLayers,
                         ::testing::Combine(::testing::Values("sd15", "sd21", "sdxl"),
                                            ::testing::Values(DType::f32, DType::bf16)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::string(dtype_name(std::get<1>(info.param)));
                         });

}  // namespace
}  // namespace darkroom::testing

#include "bench/kernels/layers.h"

#include <fmt/core.h>

#include "model/network_graphs.h"

namespace darkroom::bench {

namespace {

// "3x3,s1,+bias/2x64x64x320->2x64x64x640"
std::string name_of(const OpAttrs& attrs, const KernelCall& call) {
  const OpDef& op = op_def(op_kind(attrs));
  std::string what = describe(attrs, call.in), shapes;
  for (char& c : what)
    if (c == ' ') c = ',';
  for (int slot = 0; slot < op.inputs; ++slot)
    if (call.in[slot].present() && op.role(slot) == SlotRole::activation)
      shapes += (shapes.empty() ? "" : "+") + call.in[slot].shape.to_string();
  return fmt::format("{}/{}->{}", what, shapes, call.out.shape.to_string());
}

TensorView dense(const TensorView& v, const Shape& shape) { return TensorView::dense(nullptr, v.dtype, shape); }

// The product of a gemm: A dense, bias, nothing more.
Layer plain_gemm(const Layer& layer) {
  const TensorView &a = layer.call.in[GemmAttrs::kA], &weight = layer.call.in[GemmAttrs::kWeight];
  Layer plain;
  plain.attrs = GemmAttrs{};
  plain.call.in[GemmAttrs::kA] = dense(a, {a.shape.rows(), a.shape.channels()});
  plain.call.in[GemmAttrs::kWeight] = dense(weight, weight.shape);
  plain.call.in[GemmAttrs::kBias] = TensorView::dense(nullptr, DType::f32, {weight.shape[0]});
  plain.call.out = dense(layer.call.out, {a.shape.rows(), weight.shape[0]});
  return plain;
}

Layer plain_conv2d(const Layer& layer) {
  const auto* normed = std::get_if<NormConv2dAttrs>(&layer.attrs);
  Conv2dAttrs attrs = normed ? *normed : std::get<Conv2dAttrs>(layer.attrs);
  const TensorView &x = layer.call.in[Conv2dAttrs::kX], &weight = layer.call.in[Conv2dAttrs::kWeight];
  Shape source = x.shape;
  source[3] = weight.shape[1];
  if (attrs.upsample_height > 0) source[1] = attrs.upsample_height, source[2] = attrs.upsample_width;
  attrs.upsample_height = attrs.upsample_width = 0;
  attrs.epilogue = {};
  Layer plain;
  plain.attrs = attrs;
  plain.call.in[Conv2dAttrs::kX] = dense(x, source);
  plain.call.in[Conv2dAttrs::kWeight] = dense(weight, weight.shape);
  plain.call.in[Conv2dAttrs::kBias] = TensorView::dense(nullptr, DType::f32, {weight.shape[0]});
  Shape out = layer.call.out.shape;
  out[3] = weight.shape[0];
  plain.call.out = dense(layer.call.out, out);
  return plain;
}

// Attention of dense q, k and v.
Layer plain_attention(const Layer& layer) {
  Layer plain;
  plain.attrs = layer.attrs;
  for (int slot : {AttentionAttrs::kQ, AttentionAttrs::kK, AttentionAttrs::kV})
    plain.call.in[slot] = dense(layer.call.in[slot], layer.call.in[slot].shape);
  plain.call.out = dense(layer.call.out, layer.call.out.shape);
  return plain;
}

}  // namespace

void add_model_layers(const Checkpoint& checkpoint, const std::string& name, const LayerOptions& options,
                      Layers& layers) {
  for (const Graph& graph : network_graphs(
           checkpoint,
           {.batch = options.batch, .dtype = options.dtype, .weights = options.weights, .isa = options.isa})) {
    for (const Node& node : graph.nodes()) {
      Layer layer;
      layer.attrs = node.attrs;
      for (int slot = 0; slot < op_def(node.kind()).inputs; ++slot)
        if (node.inputs[size_t(slot)] != kNoValue) layer.call.in[slot] = graph.view(node.inputs[size_t(slot)]);
      layer.call.out = graph.view(node.output);
      layer.cost = op_cost(node.attrs, layer.call.in, layer.call.out);
      layers.emplace(
          fmt::format("{}/{}/{}/{}", op_def(node.kind()).name, name, graph.name(), name_of(layer.attrs, layer.call)),
          layer);
    }
  }
}

Layers plain_layers(const Layers& layers) {
  Layers plain;
  for (const auto& [name, layer] : layers) {
    const OpKind from = op_kind(layer.attrs);
    const bool convolution = from == OpKind::conv2d || from == OpKind::norm_conv2d;
    if (from != OpKind::gemm && from != OpKind::attention && !convolution) continue;
    Layer product = convolution            ? plain_conv2d(layer)
                    : from == OpKind::gemm ? plain_gemm(layer)
                                           : plain_attention(layer);
    const OpKind kind = op_kind(product.attrs);
    product.cost = op_cost(product.attrs, product.call.in, product.call.out);
    plain.emplace(fmt::format("{}/plain/{}", op_def(kind).name, name_of(product.attrs, product.call)), product);
  }
  return plain;
}

}  // namespace darkroom::bench

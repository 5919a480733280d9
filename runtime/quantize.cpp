#include "runtime/quantize.h"

namespace darkroom {

namespace {

constexpr int64_t kMinRows = 16, kMinInputs = 64, kMinOutputs = 32;

bool worth_it(const Shape& out, const Shape& weight) {
  return out.rows() / out[0] >= kMinRows && weight.elements() / weight[0] >= kMinInputs && weight[0] >= kMinOutputs;
}

}  // namespace

int quantize_int8(Graph& graph) {
  int marked = 0;
  for (Node& node : graph.mutable_nodes()) {
    const Shape& out = graph.shape(node.output);
    if (auto* gemm = std::get_if<GemmAttrs>(&node.attrs)) {
      gemm->int8 = worth_it(out, graph.shape(node.inputs[GemmAttrs::kWeight]));
      marked += gemm->int8;
    }
    if (auto* conv = std::get_if<Conv2dAttrs>(&node.attrs)) {
      conv->int8 =
          (conv->kernel == 1 || conv->stride != 1) && worth_it(out, graph.shape(node.inputs[Conv2dAttrs::kWeight]));
      marked += conv->int8;
    }
  }
  return marked;
}

}  // namespace darkroom

// The calls that the networks of a model make: what bench_kernels runs the table on.
#pragma once

#include <map>
#include <string>

#include "kernels/core/kernel.h"
#include "model/checkpoint.h"

namespace darkroom::bench {

// A call without memory. `call.attrs` is not set: the layer may move.
struct Layer {
  OpAttrs attrs;
  KernelCall call;
  Cost cost;

  KernelCall bound() const {
    KernelCall c = call;
    c.attrs = &attrs;
    return c;
  }
};

// By name: OP/MODEL/GRAPH/WHAT/SHAPES, or OP/plain/WHAT/SHAPES.
using Layers = std::map<std::string, Layer>;

struct LayerOptions {
  int64_t batch = 2;  // of text and UNet
  DType dtype = DType::f32;
  DType weights = DType::f32;
  Isa isa = active_isa();  // what the graphs are fused for
};

// Every different call of the model's networks at native size, fused as sdrun runs them, is added under `name`.
void add_model_layers(const Checkpoint& checkpoint, const std::string& name, const LayerOptions& options,
                      Layers& layers);

// For each gemm and convolution among them the product alone, as every library has it: one dense source, a bias, nothing
// else in the epilogue, no enlarged source; each attention with dense operands. Layers that differ only in the rest become one.
Layers plain_layers(const Layers& layers);

}  // namespace darkroom::bench

// Runs a graph on weights from a seed: for tests of passes and of the executor.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/unet.h"
#include "runtime/executor.h"
#include "tests/support/kernel_call.h"

namespace darkroom::testing {

// Weights drawn from the tensor's name, scaled by their fan-in, whatever is asked for; f32 unless told otherwise.
class NamedWeights : public WeightSource {
 public:
  // The shapes come from the graphs that will ask.
  explicit NamedWeights(DType dtype = DType::f32) : dtype_(dtype) {}
  void add(const Graph& graph);

  WeightView find(std::string_view name) const override;
  void release(std::string_view) const override {}
  std::string where() const override { return "named weights"; }

 private:
  struct Tensor {
    Shape shape;
    std::vector<std::byte> bytes;
  };
  DType dtype_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

// Values by the name of an input or output, as floats; i32 inputs are rounded.
using Named = std::map<std::string, std::vector<float>>;

// A UNet of two levels that has every kind of block.
UNetConfig small_unet_config();

// Inputs for the graph drawn from their names: normal; "timestep" 0 … 999; ids 0 … 99.
Named random_inputs(const Graph& graph);

// Plans and runs. Inputs that `inputs` lacks are an error. With a check, the run goes through it.
Named run_graph(Graph graph, const WeightSource& weights, const Named& inputs, const PlanOptions& options = {},
                PlanCheck* check = nullptr);

}  // namespace darkroom::testing

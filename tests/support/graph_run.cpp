#include "tests/support/graph_run.h"

#include <cmath>
#include <random>
#include <stdexcept>

namespace darkroom::testing {

namespace {

uint32_t seed_of(std::string_view name) {
  uint32_t h = 2166136261u;
  for (char c : name) h = (h ^ uint8_t(c)) * 16777619u;
  return h;
}

}  // namespace

void NamedWeights::add(const Graph& graph) {
  for (const Value& v : graph.values()) {
    if (v.kind != ValueKind::weight || v.parts.size() != 1 || tensors_.contains(v.name)) continue;
    Tensor& t = tensors_[v.name];
    t.shape = v.shape;
    t.bytes.resize(size_t(v.shape.elements()) * dtype_size(dtype_));
    const bool vector = v.shape.rank() == 1;
    const double fan_in = vector ? 100.0 : double(v.shape.elements()) / double(v.shape[0]);
    std::mt19937 generator(seed_of(v.name));
    std::normal_distribution<float> normal(vector && v.name.ends_with("weight") ? 1.0f : 0.0f,
                                           float(1.0 / std::sqrt(fan_in)));
    for (int64_t i = 0; i < v.shape.elements(); ++i) {
      const float x = normal(generator);
      if (dtype_ == DType::f32) reinterpret_cast<float*>(t.bytes.data())[i] = x;
      if (dtype_ == DType::f16) reinterpret_cast<f16_t*>(t.bytes.data())[i] = to_f16(x);
      if (dtype_ == DType::bf16) reinterpret_cast<bf16_t*>(t.bytes.data())[i] = to_bf16(x);
    }
  }
}

WeightView NamedWeights::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return {};
  return {dtype_, found->second.shape, found->second.bytes.data(), found->second.bytes.size()};
}

UNetConfig small_unet_config() {
  UNetConfig c;
  c.block_out_channels = {16, 32};
  c.down_attention = {true, false};
  c.up_attention = {false, true};
  c.layers_per_block = {1, 1};
  c.num_attention_heads = {2, 4};
  c.transformer_layers_per_block = {1, 1};
  c.cross_attention_dim = 24;
  c.norm_num_groups = 8;
  return c;
}

Named random_inputs(const Graph& graph) {
  Named inputs;
  for (const Value& v : graph.values()) {
    if (v.kind != ValueKind::input) continue;
    std::mt19937 generator(seed_of(v.name));
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<float> uniform(0.0f, v.name == "timestep" ? 999.0f : 99.0f);
    std::vector<float>& values = inputs[v.name];
    for (int64_t i = 0; i < v.shape.elements(); ++i)
      values.push_back(v.dtype == DType::i32 || v.name == "timestep" ? std::floor(uniform(generator))
                                                                     : normal(generator));
  }
  return inputs;
}

Named run_graph(Graph graph, const WeightSource& weights, const Named& inputs, const PlanOptions& options,
                PlanCheck* check) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(options.threads);
  WeightStore store(weights, *backend);
  store.resolve(graph);
  const Plan plan = make_plan(std::move(graph), options);
  Arena arena(*backend);
  Executable executable(plan, *backend, arena, store);
  for (const Value& v : plan.graph.values()) {
    if (v.kind != ValueKind::input) continue;
    const auto found = inputs.find(v.name);
    if (found == inputs.end() || int64_t(found->second.size()) != v.shape.elements())
      throw std::runtime_error("no input " + v.name + " of that size");
    if (v.dtype == DType::i32) {
      const std::vector<int32_t> integers(found->second.begin(), found->second.end());
      executable.write(v.name, std::as_bytes(std::span(integers)));
    } else if (v.dtype == DType::bf16) {
      std::vector<bf16_t> halves;
      for (float x : found->second) halves.push_back(to_bf16(x));
      executable.write(v.name, std::as_bytes(std::span(halves)));
    } else {
      executable.write(v.name, std::as_bytes(std::span(found->second)));
    }
  }
  // Outputs begin as NaN: what is not written shows.
  for (const GraphOutput& o : plan.graph.outputs()) {
    const size_t n = size_t(plan.graph.shape(o.value).elements());
    const std::vector<bf16_t> halves(n, bf16_t{0x7fc0});
    const std::vector<float> floats(n, NAN);
    executable.write(o.name, plan.graph.value(o.value).dtype == DType::bf16 ? std::as_bytes(std::span(halves))
                                                                            : std::as_bytes(std::span(floats)));
  }
  Runner(*backend, {&executable}, nullptr, check).run();
  Named results;
  for (const GraphOutput& o : plan.graph.outputs()) {
    std::vector<float>& result = results[o.name];
    result.resize(size_t(plan.graph.shape(o.value).elements()));
    if (plan.graph.value(o.value).dtype == DType::bf16) {
      std::vector<bf16_t> halves(result.size());
      executable.read(o.name, std::as_writable_bytes(std::span(halves)));
      for (size_t i = 0; i < halves.size(); ++i) result[i] = to_float(halves[i]);
    } else {
      executable.read(o.name, std::as_writable_bytes(std::span(result)));
    }
  }
  return results;
}

}  // namespace darkroom::testing

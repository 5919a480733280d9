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

Named run_graph(Graph graph, const WeightSource& weights, const Named& inputs, const PlanOptions& options) {
  const std::unique_ptr<Backend> backend = make_cpu_backend(options.threads);
  WeightStore store(weights, *backend);
  store.resolve(graph);
  const Plan plan = make_plan(std::move(graph), options);
  Arena arena(*backend);
  Executable executable(plan, *backend, arena, store);
  std::map<std::string, std::vector<float>> floats;
  std::map<std::string, std::vector<int32_t>> integers;
  std::map<std::string, std::vector<bf16_t>> halves;
  for (const Value& v : plan.graph.values()) {
    if (v.kind != ValueKind::input) continue;
    const auto found = inputs.find(v.name);
    if (found == inputs.end() || int64_t(found->second.size()) != v.shape.elements())
      throw std::runtime_error("no input " + v.name + " of that size");
    if (v.dtype == DType::i32) {
      integers[v.name].assign(found->second.begin(), found->second.end());
      executable.bind(v.name, integers[v.name].data());
    } else if (v.dtype == DType::bf16) {
      for (float x : found->second) halves[v.name].push_back(to_bf16(x));
      executable.bind(v.name, halves[v.name].data());
    } else {
      floats[v.name] = found->second;
      executable.bind(v.name, floats[v.name].data());
    }
  }
  Named results;
  for (const GraphOutput& o : plan.graph.outputs()) {
    const size_t n = size_t(plan.graph.shape(o.value).elements());
    if (plan.graph.value(o.value).dtype == DType::bf16) {
      halves["out " + o.name].assign(n, bf16_t{0x7fc0});
      executable.bind(o.name, halves["out " + o.name].data());
    } else {
      results[o.name].assign(n, NAN);
      executable.bind(o.name, results[o.name].data());
    }
  }
  executable.run();
  for (const GraphOutput& o : plan.graph.outputs())
    if (plan.graph.value(o.value).dtype == DType::bf16)
      for (bf16_t x : halves["out " + o.name]) results[o.name].push_back(to_float(x));
  return results;
}

}  // namespace darkroom::testing

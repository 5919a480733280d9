#include "runtime/plan.h"

#include <algorithm>

#include "kernels/core/error.h"

namespace darkroom {

KernelCall kernel_call(const Graph& graph, const Node& node) {
  KernelCall call;
  call.attrs = &node.attrs;
  for (size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] != kNoValue) call.in[i] = graph.view(node.inputs[i]);
  call.out = graph.view(node.output);
  if (node.moments != kNoValue) call.moments = graph.view(node.moments);
  return call;
}

namespace {

size_t bytes_of(const Value& v) { return size_t(v.shape.elements()) * dtype_size(v.dtype); }

}  // namespace

Cost Plan::total_cost() const {
  Cost total;
  for (const Step& step : steps) {
    total.flops += step.cost.flops;
    total.bytes += step.cost.bytes;
  }
  return total;
}

KernelCall Plan::call(const Step& step) const { return kernel_call(graph, graph.nodes()[size_t(step.node)]); }

Plan make_plan(Graph source, const PlanOptions& options) {
  source.check();
  Plan plan{.graph = std::move(source), .threads = options.threads, .steps = {}, .placements = {}};
  const Graph& graph = plan.graph;
  const int steps = int(graph.nodes().size());

  plan.placements.resize(graph.values().size());
  for (size_t i = 0; i < graph.values().size(); ++i) {
    Placement& p = plan.placements[i];
    const Value& v = graph.values()[i];
    p.bytes = bytes_of(v);
    p.first = v.producer;
    p.last = v.producer;
    if (v.kind == ValueKind::input) p.place = Place::external;
    if (v.kind == ValueKind::weight) p.place = Place::weight;
    if (v.kind == ValueKind::activation && v.view.base == kNoValue && v.producer >= 0) p.place = Place::arena;
    if (v.kind == ValueKind::assembled) {
      p.place = Place::arena;
      p.first = steps;
    }
  }
  for (const GraphOutput& output : graph.outputs()) {
    const Value& v = graph.value(output.value);
    if ((v.kind != ValueKind::activation && v.kind != ValueKind::assembled) || v.view.base != kNoValue)
      throw internal_error("{}: output {} is no activation", graph.name(), output.name);
    plan.placements[size_t(output.value)].place = Place::external;
  }

  for (int s = 0; s < steps; ++s) {
    const Node& node = graph.nodes()[size_t(s)];
    for (ValueId id : node.inputs)
      if (id != kNoValue) plan.placements[size_t(graph.root(id))].last = s;
    Placement& written = plan.placements[size_t(graph.root(node.output))];
    written.first = std::min(written.first, s);
    written.last = std::max(written.last, s);
    const KernelCall call = kernel_call(graph, node);
    Step step;
    step.node = s;
    step.selection = select_kernel(call, options, node.name);
    step.what = describe(node.attrs, call.in);
    step.cost = op_cost(node.attrs, call.in, call.out);
    if (node.moments != kNoValue) step.cost.bytes += double(bytes_of(graph.value(node.moments)));
    if (step.selection.kernel->scratch_bytes)
      step.scratch_bytes = step.selection.kernel->scratch_bytes(call, options.threads);
    plan.steps.push_back(std::move(step));
  }

  std::vector<Buffer> buffers;
  std::vector<size_t*> offsets;
  for (Placement& p : plan.placements) {
    if (p.place != Place::arena) continue;
    buffers.push_back({p.bytes, p.first, p.last});
    offsets.push_back(&p.offset);
  }
  for (Step& step : plan.steps) {
    if (step.scratch_bytes == 0) continue;
    buffers.push_back({step.scratch_bytes, step.node, step.node});
    offsets.push_back(&step.scratch_offset);
  }
  const MemoryPlan memory = plan_memory(buffers);
  for (size_t i = 0; i < offsets.size(); ++i) *offsets[i] = memory.offset[i];
  plan.arena_bytes = memory.arena_bytes;
  plan.lower_bound = memory.lower_bound;
  plan.naive_bytes = memory.naive_bytes;
  return plan;
}

}  // namespace darkroom

#include "runtime/session.h"

#include <algorithm>

namespace darkroom {

namespace {

// Whether the device could run this op by another kernel than the reference.
bool has_fast_kernel(OpKind op, Isa isa) {
  return std::ranges::any_of(kernels_of(op),
                             [&](const KernelDef* k) { return k->variant != "ref" && runs_on(k->isa, isa); });
}

}  // namespace

Plan Session::plan(Graph graph) const {
  weights_.resolve(graph);
  PlanOptions options;
  options.threads = backend_->team();
  static_cast<SelectOptions&>(options) = select_options();
  return make_plan(std::move(graph), options);
}

std::unique_ptr<Program> Session::compile(Graph graph, std::vector<PassReport> passes) {
  Plan made = plan(std::move(graph));
  for (const Step& step : made.steps)
    if (step.selection.kernel->variant == "ref" && has_fast_kernel(step.selection.kernel->op, backend_->isa()))
      reference_steps_.insert(made.graph.name() + ": " + made.graph.nodes()[size_t(step.node)].name);
  return std::make_unique<Program>(std::move(made), std::move(passes), *backend_, arena_, weights_, options_.trace,
                                   check_.get());
}

std::unique_ptr<Program> Session::compile(Graph graph) {
  std::vector<PassReport> passes = fuse(graph);
  return compile(std::move(graph), std::move(passes));
}

std::unique_ptr<Runner> Session::sequence(std::span<Program* const> programs) {
  std::vector<Executable*> executables;
  for (Program* program : programs) executables.push_back(&program->executable());
  return std::make_unique<Runner>(*backend_, std::move(executables), options_.trace, check_.get());
}

MemoryNeed Session::memory_need(std::span<const Plan* const> plans) const {
  MemoryNeed need;
  need.weights = weights_.missing_bytes(plans);
  size_t arena = 0;
  for (const Plan* plan : plans) {
    arena = std::max(arena, plan->arena_bytes);
    for (const Placement& p : plan->placements) need.outside += p.place == Place::external ? p.bytes : 0;
  }
  // The old arena is released before a larger one is made.
  if (arena > arena_.bytes()) need.activations = arena - arena_.bytes();
  return need;
}

}  // namespace darkroom

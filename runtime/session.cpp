#include "runtime/session.h"

namespace darkroom {

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
    if (step.selection.kernel->isa == Isa::baseline && detected_isa() >= Isa::avx2)
      reference_steps_.insert(made.graph.name() + ": " + made.graph.nodes()[size_t(step.node)].name);
  return std::make_unique<Program>(std::move(made), std::move(passes), *backend_, arena_, weights_, options_.trace);
}

std::unique_ptr<Program> Session::compile(Graph graph) {
  std::vector<PassReport> passes = fuse(graph);
  return compile(std::move(graph), std::move(passes));
}

}  // namespace darkroom

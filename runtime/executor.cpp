#include "runtime/executor.h"

#include "kernels/core/error.h"

namespace darkroom {

void Arena::reserve(size_t bytes) {
  if (bytes <= bytes_) return;
  memory_ = DeviceMemory();  // first let go of the old one
  bytes_ = 0;
  memory_ = DeviceMemory(backend_, bytes, "the arena: try a smaller picture");
  bytes_ = bytes;
}

Executable::Executable(const Plan& plan, Backend& backend, Arena& arena, WeightStore& weights)
    : plan_(plan), backend_(backend), arena_(arena), external_(plan.graph.values().size(), nullptr) {
  if (backend.team() != plan.threads)
    throw internal_error("{}: planned for {} threads, run by {}", plan.graph.name(), plan.threads, backend.team());
  for (const Step& step : plan.steps) {
    calls_.push_back(plan.call(step));
    weights.bind(plan, step, calls_.back());
  }
  for (size_t i = 0; i < plan.graph.values().size(); ++i)
    if (plan.graph.values()[i].kind == ValueKind::input) bindings_.push_back({plan.graph.values()[i].name, ValueId(i)});
  for (const GraphOutput& output : plan.graph.outputs()) bindings_.push_back({output.name, output.value});
  arena.reserve(plan.arena_bytes);
}

void Executable::bind(std::string_view name, void* data) {
  for (Binding& b : bindings_) {
    if (b.name != name) continue;
    b.data = data;
    external_[size_t(b.value)] = static_cast<std::byte*>(data);
    return;
  }
  throw internal_error("{}: has no input or output {}", plan_.graph.name(), name);
}

std::byte* Executable::memory_of(ValueId id, std::byte* arena) const {
  const Graph& graph = plan_.graph;
  const ValueId root = graph.root(id);
  const Placement& p = plan_.placements[size_t(root)];
  std::byte* base = p.place == Place::arena ? arena + p.offset : external_[size_t(root)];
  return base + size_t(graph.offset(id)) * dtype_size(graph.value(id).dtype);
}

void Executable::resolve(std::byte* arena) {
  for (size_t s = 0; s < calls_.size(); ++s) {
    const Step& step = plan_.steps[s];
    const Node& node = plan_.graph.nodes()[size_t(step.node)];
    KernelCall& call = calls_[s];
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNoValue && op_def(node.kind()).role(int(i)) == SlotRole::activation)
        call.in[i].data = memory_of(node.inputs[i], arena);
    call.out.data = memory_of(node.output, arena);
    call.scratch = step.scratch_bytes ? arena + step.scratch_offset : nullptr;
  }
}

bool Executable::run(const std::atomic<bool>* cancel, Trace* trace) {
  for (const Binding& b : bindings_)
    if (b.data == nullptr) throw internal_error("{}: {} is not bound", plan_.graph.name(), b.name);
  resolve(arena_.data());
  return backend_.run(plan_, calls_, cancel, trace);
}

}  // namespace darkroom

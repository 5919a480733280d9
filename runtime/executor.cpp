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
  const auto add = [&](std::string_view name, ValueId value) {
    Binding b;
    b.name = name;
    b.value = value;
    bindings_.push_back(std::move(b));
  };
  for (size_t i = 0; i < plan.graph.values().size(); ++i)
    if (plan.graph.values()[i].kind == ValueKind::input) add(plan.graph.values()[i].name, ValueId(i));
  for (const GraphOutput& output : plan.graph.outputs()) add(output.name, output.value);
  arena.reserve(plan.arena_bytes);
}

Executable::Binding& Executable::binding(std::string_view name) {
  for (Binding& b : bindings_)
    if (b.name == name) return b;
  throw internal_error("{}: has no input or output {}", plan_.graph.name(), name);
}

size_t Executable::bytes(const Binding& b) const {
  const Value& v = plan_.graph.value(b.value);
  return size_t(v.shape.elements()) * dtype_size(v.dtype);
}

void Executable::bind(std::string_view name, void* data) {
  Binding& b = binding(name);
  if (b.data == data) return;
  b.data = data;
  changed_ = true;
}

void* Executable::own(Binding& b) {
  if (b.own.data() == nullptr) b.own = DeviceMemory(backend_, bytes(b), b.name);
  if (b.data != b.own.data()) {
    b.data = b.own.data();
    changed_ = true;
  }
  return b.data;
}

void* Executable::memory(std::string_view name) { return own(binding(name)); }

void Executable::write(std::string_view name, std::span<const std::byte> host) {
  Binding& b = binding(name);
  if (host.size() != bytes(b))
    throw internal_error("{}: {} has {} bytes, {} were given", plan_.graph.name(), name, bytes(b), host.size());
  backend_.upload(own(b), host.data(), host.size());
}

void Executable::read(std::string_view name, std::span<std::byte> host) {
  Binding& b = binding(name);
  if (host.size() != bytes(b))
    throw internal_error("{}: {} has {} bytes, {} were asked for", plan_.graph.name(), name, bytes(b), host.size());
  if (b.data == nullptr) throw internal_error("{}: {} was never computed", plan_.graph.name(), name);
  backend_.download(host.data(), b.data, host.size());
}

std::byte* Executable::memory_of(ValueId id) const {
  const Graph& graph = plan_.graph;
  const ValueId root = graph.root(id);
  const Placement& p = plan_.placements[size_t(root)];
  std::byte* base = p.place == Place::arena ? arena_.data() + p.offset : external_[size_t(root)];
  return base + size_t(graph.offset(id)) * dtype_size(graph.value(id).dtype);
}

uint64_t Executable::resolve() {
  for (Binding& b : bindings_)
    if (b.data == nullptr) own(b);
  if (!changed_ && resolved_arena_ == arena_.data()) return version_;
  changed_ = false;
  ++version_;
  resolved_arena_ = arena_.data();
  for (const Binding& b : bindings_) external_[size_t(b.value)] = static_cast<std::byte*>(b.data);
  for (size_t s = 0; s < calls_.size(); ++s) {
    const Step& step = plan_.steps[s];
    const Node& node = plan_.graph.nodes()[size_t(step.node)];
    KernelCall& call = calls_[s];
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNoValue && op_def(node.kind()).role(int(i)) == SlotRole::activation)
        call.in[i].data = memory_of(node.inputs[i]);
    call.out.data = memory_of(node.output);
    if (node.moments != kNoValue) call.moments.data = memory_of(node.moments);
    call.scratch = step.scratch_bytes ? arena_.data() + step.scratch_offset : nullptr;
  }
  return version_;
}

void Runner::prepare() {
  bool stale = recording_ == nullptr;
  for (size_t i = 0; i < executables_.size(); ++i) {
    const uint64_t version = executables_[i]->resolve();
    stale |= version != versions_[i];
    versions_[i] = version;
  }
  if (!stale) return;
  std::vector<BoundPlan> plans;
  for (const Executable* executable : executables_) plans.push_back(executable->bound());
  recording_ = backend_.record(plans);
}

bool Runner::run(const std::atomic<bool>* cancel) {
  prepare();
  if (check_ == nullptr) return recording_->run(cancel, trace_);
  for (const Executable* executable : executables_) check_->run(executable->bound(), backend_);
  check_ = nullptr;
  return true;
}

}  // namespace darkroom

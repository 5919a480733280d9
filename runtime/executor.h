// Plans with their memory: weights, arena, and what is bound from outside.
#pragma once

#include <atomic>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/backend.h"
#include "runtime/check.h"
#include "runtime/plan.h"
#include "runtime/weight_store.h"

namespace darkroom {

// One arena for all plans of a session: it grows to the largest while they are prepared and stays then.
class Arena {
 public:
  explicit Arena(Backend& backend) : backend_(backend) {}
  // Throws resource_error where there is no memory.
  void reserve(size_t bytes);
  std::byte* data() const { return memory_.data(); }
  size_t bytes() const { return bytes_; }

 private:
  Backend& backend_;
  DeviceMemory memory_;
  size_t bytes_ = 0;
};

class Executable {
 public:
  // Packs the weights. Plan, backend, arena and store must outlive it; the backend's team is the plan's threads. Throws as
  // they do.
  Executable(const Plan& plan, Backend& backend, Arena& arena, WeightStore& weights);

  // Memory of the device for an input or output, dense, in the shape and dtype of the graph's value. Stays until bound again.
  // An output may lie where an input does if its kernel allows it. Throws internal_error on a name that the graph does not
  // have.
  void bind(std::string_view name, void* data);

  // Memory of the executable's own for an input or output, to which it is bound with this; for others to bind to.
  void* memory(std::string_view name);

  // The same by host memory: the executable gives the input or output memory of its own and copies, into it now, or out of it
  // after a run. Throws internal_error where the bytes are not those of the graph's value.
  void write(std::string_view name, std::span<const std::byte> host);
  void read(std::string_view name, std::span<std::byte> host);

  // Gives every operand its memory; what is bound to nothing gets memory of its own. Returns a number that is another one
  // where something changed since the last call, so that a recording is stale.
  uint64_t resolve();
  BoundPlan bound() const { return {&plan_, calls_}; }
  const Plan& plan() const { return plan_; }

 private:
  struct Binding {
    std::string_view name;
    ValueId value;
    void* data = nullptr;
    DeviceMemory own;
  };

  Binding& binding(std::string_view name);
  void* own(Binding& b);
  size_t bytes(const Binding& b) const;
  std::byte* memory_of(ValueId id) const;

  const Plan& plan_;
  Backend& backend_;
  Arena& arena_;
  std::vector<KernelCall> calls_;
  std::vector<Binding> bindings_;
  std::vector<std::byte*> external_;  // by ValueId
  bool changed_ = true;               // since resolve()
  std::byte* resolved_arena_ = nullptr;
  uint64_t version_ = 0;
};

// Executables that run one after the other, as one recording.
class Runner {
 public:
  // All must outlive it. `trace` and `check` may be null; with a check, the first run goes through it.
  Runner(Backend& backend, std::vector<Executable*> executables, Trace* trace, PlanCheck* check)
      : backend_(backend),
        executables_(std::move(executables)),
        versions_(executables_.size(), 0),
        trace_(trace),
        check_(check) {}

  // Records what is not recorded yet, so that the run after it allocates nothing. Without it the first run records.
  void prepare();
  // As Recording::run(). Allocates nothing where nothing was bound anew.
  bool run(const std::atomic<bool>* cancel = nullptr);

 private:
  Backend& backend_;
  std::vector<Executable*> executables_;
  std::vector<uint64_t> versions_;  // of the executables in the recording
  Trace* trace_;
  PlanCheck* check_;
  std::unique_ptr<Recording> recording_;
};

}  // namespace darkroom

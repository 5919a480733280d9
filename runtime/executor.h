// A plan with its memory: weights, arena, and what is bound from outside.
#pragma once

#include <atomic>
#include <memory>
#include <string_view>
#include <vector>

#include "runtime/backend.h"
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
  // Throws internal_error on a name that the graph does not have.
  void bind(std::string_view name, void* data);

  // True where it ran to its end, false where `cancel` became true between two steps. Allocates nothing.
  // Throws internal_error, before the first step, where something is not bound.
  // Each step's time goes to `trace`, where there is one.
  bool run(const std::atomic<bool>* cancel = nullptr, Trace* trace = nullptr);

 private:
  struct Binding {
    std::string_view name;
    ValueId value;
    void* data = nullptr;
  };

  void resolve(std::byte* arena);
  std::byte* memory_of(ValueId id, std::byte* arena) const;

  const Plan& plan_;
  Backend& backend_;
  Arena& arena_;
  std::vector<KernelCall> calls_;
  std::vector<Binding> bindings_;
  std::vector<std::byte*> external_;  // by ValueId
};

}  // namespace darkroom

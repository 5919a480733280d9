// The weights of a model as its kernels want them: packed once, shared by all plans.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "runtime/plan.h"
#include "runtime/weight_source.h"

namespace darkroom {

class WeightStore {
 public:
  // The source and the backend must outlive the store.
  WeightStore(const WeightSource& source, Backend& backend) : source_(source), backend_(backend) {}

  // Sets each weight's dtype to what the source has. Throws file_error naming a tensor that is missing, that has another
  // shape than the graph, or a type that weights cannot have.
  void resolve(Graph& graph) const;

  // The weights of one step: call.packed, and data of the vector and table slots. Packs what is not packed yet and lets
  // the source's pages go. Throws as resolve() does, and resource_error where there is no memory.
  void bind(const Plan& plan, const Step& step, KernelCall& call);

  size_t bytes() const { return bytes_; }
  // What bind() would allocate for all steps of these plans together. The plans' weights must be resolved.
  size_t missing_bytes(std::span<const Plan* const> plans) const;

 private:
  // One weight of a step as the store keeps it: its name there, and its size. 0 bytes: given as the source has it.
  struct Entry {
    std::string key;
    size_t bytes = 0;
  };
  Entry entry(const Plan& plan, const Step& step, const KernelCall& call, int slot) const;
  std::vector<TensorView> parts(const Value& weight, bool with_data) const;
  void release(const Value& weight) const;
  void* allocate(size_t bytes, const std::string& key);

  const WeightSource& source_;
  Backend& backend_;
  std::map<std::string, DeviceMemory> memory_;
  size_t bytes_ = 0;
};

}  // namespace darkroom

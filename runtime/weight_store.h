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

 private:
  std::vector<TensorView> parts(const Value& weight, bool with_data) const;
  void release(const Value& weight) const;
  void* allocate(size_t bytes, const std::string& key);

  const WeightSource& source_;
  Backend& backend_;
  std::map<std::string, DeviceMemory> memory_;
  size_t bytes_ = 0;
};

}  // namespace darkroom

#include "runtime/share_samples.h"

#include <map>
#include <vector>

namespace darkroom {

namespace {

class Sharing {
 public:
  explicit Sharing(Graph& graph) : graph_(graph) {}

  int run() {
    int count = 0;
    for (size_t n = 0; n < graph_.nodes().size(); ++n) count += share(NodeId(n));
    if (count > 0) graph_.check();
    return count;
  }

 private:
  bool is_broadcast(const Value& v) const {
    return v.kind == ValueKind::view && v.shape.rank() >= 2 && v.shape[0] > 1 && v.view.stride[0] == 0;
  }

  // The one sample behind a value that is the same for all; kNoValue where it is not.
  ValueId one(ValueId id) {
    if (const auto found = ones_.find(id); found != ones_.end()) return found->second;
    return ones_[id] = find_one(id);
  }
  ValueId find_one(ValueId id) {
    if (graph_.value(id).kind != ValueKind::view) return kNoValue;
    const ViewSpec window = graph_.value(id).view;
    ValueId base = window.base;
    if (!is_broadcast(graph_.value(id)) || graph_.shape(base)[0] != 1) {
      // A view onto a broadcast shows one sample too, where it keeps the samples apart.
      base = one(window.base);
      if (base == kNoValue || graph_.shape(id)[0] != graph_.shape(window.base)[0]) return kNoValue;
      graph_.mutable_values()[size_t(id)].view.stride[0] = 0;
    } else if (window.offset == 0 &&
               graph_.shape(base).elements() * graph_.shape(id)[0] == graph_.shape(id).elements()) {
      return base;
    }
    Value sample = graph_.value(id);
    const TensorView dense = TensorView::dense(nullptr, sample.dtype, sample.shape);
    sample.shape[0] = 1;
    sample.view = window;
    sample.view.base = base;
    sample.view.stride[0] = dense.stride[0];
    graph_.mutable_values().push_back(std::move(sample));
    return ValueId(graph_.values().size() - 1);
  }

  bool share(NodeId n) {
    const ValueId out = graph_.nodes()[size_t(n)].output;
    if (graph_.value(out).view.base != kNoValue) return false;
    for (const GraphOutput& o : graph_.outputs())
      if (o.value == out) return false;
    std::vector<ValueId> inputs = graph_.nodes()[size_t(n)].inputs;
    bool any = false;
    for (ValueId& v : inputs) {
      if (v == kNoValue || graph_.value(v).kind == ValueKind::weight) continue;
      v = one(v);
      if (v == kNoValue) return false;
      any = true;
    }
    if (!any) return false;
    // The result's id stays with those who read it: it becomes the broadcast.
    const int64_t samples = graph_.shape(out)[0];
    Value sample = graph_.value(out);
    sample.shape[0] = 1;
    graph_.mutable_values().push_back(std::move(sample));
    const ValueId computed = ValueId(graph_.values().size() - 1);
    const ValueId shown = graph_.broadcast(computed, samples);
    graph_.mutable_values()[size_t(out)] = graph_.value(shown);
    ones_[out] = computed;
    Node& node = graph_.mutable_nodes()[size_t(n)];
    node.inputs = std::move(inputs);
    node.output = computed;
    return true;
  }

  Graph& graph_;
  std::map<ValueId, ValueId> ones_;
};

}  // namespace

int share_samples(Graph& graph) { return Sharing(graph).run(); }

}  // namespace darkroom

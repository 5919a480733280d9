#include "runtime/graph_edit.h"

#include <algorithm>

namespace darkroom {

GraphEdit::GraphEdit(Graph& graph) : graph_(graph), erased_(graph.nodes().size(), false) {}

NodeId GraphEdit::producer(ValueId v) const {
  if (v == kNoValue || graph_.value(v).kind != ValueKind::activation) return -1;
  const NodeId n = graph_.value(v).producer;
  return n >= 0 && !erased(n) ? n : -1;
}

int GraphEdit::uses(ValueId v) const {
  int count = is_output(v);
  for (NodeId n = 0; n < int(graph_.nodes().size()); ++n)
    if (!erased(n)) count += int(std::ranges::count(graph_.nodes()[size_t(n)].inputs, v));
  for (size_t i = 0; i < graph_.values().size(); ++i) {
    const Value& other = graph_.values()[i];
    if (other.view.base == v && uses(ValueId(i)) > 0) ++count;
  }
  return count;
}

std::vector<NodeId> GraphEdit::readers(ValueId v) const {
  std::vector<NodeId> found;
  for (NodeId n = 0; n < int(graph_.nodes().size()); ++n)
    if (!erased(n) && std::ranges::count(graph_.nodes()[size_t(n)].inputs, v)) found.push_back(n);
  return found;
}

bool GraphEdit::has_views(ValueId v) const {
  for (size_t i = 0; i < graph_.values().size(); ++i)
    if (graph_.values()[i].view.base == v && uses(ValueId(i)) > 0) return true;
  return false;
}

bool GraphEdit::is_output(ValueId v) const {
  return std::ranges::any_of(graph_.outputs(), [&](const GraphOutput& o) { return o.value == v; });
}

ValueId GraphEdit::sole_source(ValueId v) const {
  if (uses(v) != 1) return kNoValue;
  const Value& value = graph_.value(v);
  if (value.kind == ValueKind::activation) return v;
  if (value.kind != ValueKind::view) return kNoValue;
  const Value& base = graph_.value(value.view.base);
  const bool same = base.kind == ValueKind::activation && base.view.base == kNoValue && graph_.view(v).is_dense() &&
                    base.shape.elements() == value.shape.elements();
  return same && uses(value.view.base) == 1 ? value.view.base : kNoValue;
}

void GraphEdit::take_over(NodeId fused, NodeId replaced) {
  // The fused node runs where the replaced one ran: all that either reads is there by then.
  Node& from = node(fused);
  Node& to = node(replaced);
  to.attrs = std::move(from.attrs);
  to.inputs = std::move(from.inputs);
  if (from.provenance.empty()) from.provenance.push_back(from.name);
  from.provenance.push_back(to.name);
  to.provenance = std::move(from.provenance);
  to.name = from.name;
  const ValueId inner = from.output, outer = to.output;
  if (!(graph_.shape(inner) == graph_.shape(outer)) &&
      graph_.shape(inner).elements() == graph_.shape(outer).elements()) {
    // `outer` was produced in another shape: it becomes a window onto `inner`.
    to.output = inner;
    value(inner).dtype = value(outer).dtype;
    value(inner).producer = replaced;
    Value& window = value(outer);
    const TensorView dense = TensorView::dense(nullptr, window.dtype, window.shape);
    window.kind = ValueKind::view;
    window.producer = -1;
    window.view = {inner, 0, dense.stride};
  }
  erase(fused);
}

void GraphEdit::finish() {
  std::vector<Node>& nodes = graph_.mutable_nodes();
  std::vector<Node> kept;
  for (Value& v : graph_.mutable_values()) v.producer = -1;
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (erased_[n]) continue;
    value(nodes[n].output).producer = NodeId(kept.size());
    if (nodes[n].moments != kNoValue) value(nodes[n].moments).producer = NodeId(kept.size());
    kept.push_back(std::move(nodes[n]));
  }
  nodes = std::move(kept);
  erased_.assign(nodes.size(), false);
  graph_.check();
}

}  // namespace darkroom

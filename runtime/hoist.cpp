#include <algorithm>
#include <map>

#include "kernels/core/error.h"
#include "runtime/fusion.h"

namespace darkroom {

namespace {

// The graph that remains after `moved` nodes and unused inputs have left: values keep their order, ids are new.
class Splitter {
 public:
  Splitter(const Graph& source, Graph& target) : source_(source), target_(target) {}

  // The same value in the target; views and what they show follow.
  ValueId copy(ValueId v) {
    if (v == kNoValue) return kNoValue;
    if (const auto found = ids_.find(v); found != ids_.end()) return found->second;
    Value value = source_.value(v);
    if (value.view.base != kNoValue) value.view.base = copy(value.view.base);
    target_.mutable_values().push_back(std::move(value));
    return ids_[v] = ValueId(target_.values().size() - 1);
  }

  // `v` arrives from outside.
  void import(ValueId v, const std::string& name) {
    ids_[v] = target_.input(name, source_.shape(v), source_.value(v).dtype);
  }

  void add(Node node) {
    for (ValueId& v : node.inputs) v = copy(v);
    node.output = copy(node.output);
    node.moments = copy(node.moments);
    for (ValueId v : {node.output, node.moments})
      if (v != kNoValue) target_.mutable_values()[size_t(v)].producer = NodeId(target_.nodes().size());
    target_.mutable_nodes().push_back(std::move(node));
  }

 private:
  const Graph& source_;
  Graph& target_;
  std::map<ValueId, ValueId> ids_;
};

}  // namespace

Graph hoist(Graph& graph, std::span<const std::string_view> inputs, std::string name) {
  // early: depends on named inputs; late: on something else. Weights are neither.
  const size_t count = graph.values().size();
  std::vector<bool> early(count, false), late(count, false);
  for (size_t v = 0; v < count; ++v) {
    const Value& value = graph.values()[v];
    if (value.kind == ValueKind::input) (std::ranges::count(inputs, value.name) ? early : late)[v] = true;
    if (value.view.base != kNoValue && value.kind == ValueKind::activation)
      late[v] = true;  // written into another value
    if (value.kind == ValueKind::assembled) late[v] = true;
  }
  std::vector<bool> moves(graph.nodes().size(), false);
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    const Node& node = graph.nodes()[n];
    bool is_early = false,
         is_late = late[size_t(node.output)] || node.moments != kNoValue;  // one result is handed over
    for (ValueId v : node.inputs) {
      if (v == kNoValue) continue;
      is_early |= early[size_t(graph.root(v))];
      is_late |= late[size_t(graph.root(v))];
    }
    for (const GraphOutput& o : graph.outputs()) is_late |= graph.root(o.value) == node.output;
    moves[n] = is_early && !is_late;
    (moves[n] ? early : late)[size_t(node.output)] = true;
    if (node.moments != kNoValue) late[size_t(node.moments)] = true;
  }

  Graph hoisted(std::move(name), graph.dtype()), rest(graph.name(), graph.dtype());
  Splitter to_hoisted(graph, hoisted), to_rest(graph, rest);
  for (size_t v = 0; v < count; ++v) {
    if (graph.values()[v].kind != ValueKind::input) continue;
    bool by_moved = false, by_rest = false;
    for (size_t n = 0; n < graph.nodes().size(); ++n)
      for (ValueId input : graph.nodes()[n].inputs)
        if (input != kNoValue && graph.root(input) == ValueId(v)) (moves[n] ? by_moved : by_rest) = true;
    if (by_moved) to_hoisted.copy(ValueId(v));
    if (by_rest || !by_moved) to_rest.copy(ValueId(v));
  }
  std::vector<std::pair<ValueId, std::string>> exported;
  for (size_t n = 0; n < graph.nodes().size(); ++n) {
    if (!moves[n]) continue;
    const Node& node = graph.nodes()[n];
    to_hoisted.add(node);
    bool used = false;
    for (size_t m = 0; m < graph.nodes().size(); ++m)
      for (ValueId input : graph.nodes()[m].inputs)
        used |= !moves[m] && input != kNoValue && graph.root(input) == node.output;
    if (!used) continue;
    exported.emplace_back(node.output, node.name);
    to_rest.import(node.output, node.name);
  }
  for (const auto& [value, node] : exported) hoisted.output(node, to_hoisted.copy(value));
  for (size_t n = 0; n < graph.nodes().size(); ++n)
    if (!moves[n]) to_rest.add(graph.nodes()[n]);
  for (const GraphOutput& o : graph.outputs()) rest.output(o.name, to_rest.copy(o.value));
  hoisted.check();
  rest.check();
  graph = std::move(rest);
  return hoisted;
}

void join_handover(Graph& from, std::span<Graph* const> readers, const std::string& name) {
  if (from.outputs().empty()) return;
  const Shape first = from.shape(from.outputs()[0].value);
  const DType dtype = from.value(from.outputs()[0].value).dtype;
  const ValueId whole = ValueId(from.values().size());
  std::map<std::string, int64_t, std::less<>> columns;  // where each output begins
  int64_t width = 0;
  for (const GraphOutput& o : from.outputs()) {
    const Value& v = from.value(o.value);
    if (v.shape.rank() != 2 || v.shape[0] != first[0] || v.dtype != dtype || v.kind != ValueKind::activation ||
        v.view.base != kNoValue)
      throw internal_error("{}: {} is no column of {}", from.name(), o.name, name);
    columns[o.name] = width;
    width += v.shape[1];
  }
  for (const GraphOutput& o : from.outputs())
    from.mutable_values()[size_t(o.value)].view = {whole, columns.at(o.name), {width, 1}};
  from.mutable_values().push_back({});
  Value& assembled = from.mutable_values().back();
  assembled.kind = ValueKind::assembled;
  assembled.shape = {first[0], width};
  assembled.dtype = dtype;
  from.mutable_outputs().clear();
  from.output(name, whole);
  from.check();

  for (Graph* to : readers) {
    const auto reads = [&](const Value& v) { return v.kind == ValueKind::input && columns.contains(v.name); };
    const auto any = std::ranges::find_if(to->values(), reads);
    if (any == to->values().end()) continue;
    const int64_t rows = any->shape[0];
    const ValueId source = ValueId(to->values().size());
    for (Value& v : to->mutable_values()) {
      if (!reads(v)) continue;
      v.kind = ValueKind::view;
      v.view = {source, columns.at(v.name), {width, 1}};
    }
    to->input(name, {rows, width}, dtype);
    to->check();
  }
}

}  // namespace darkroom

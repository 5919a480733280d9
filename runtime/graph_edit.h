// What fusion passes ask of a graph and do to it. Node and value ids stay valid until finish().
#pragma once

#include <vector>

#include "runtime/graph.h"

namespace darkroom {

class GraphEdit {
 public:
  explicit GraphEdit(Graph& graph);

  Graph& graph() { return graph_; }
  Node& node(NodeId n) { return graph_.mutable_nodes()[size_t(n)]; }
  Value& value(ValueId v) { return graph_.mutable_values()[size_t(v)]; }
  int nodes() const { return int(graph_.nodes().size()); }
  bool erased(NodeId n) const { return erased_[size_t(n)]; }

  // The node that produces `v` itself (not a view of it); -1 where there is none.
  NodeId producer(ValueId v) const;
  // The node's attributes, where it is of that op; else null.
  template <typename Attrs>
  Attrs* as(NodeId n) {
    return n < 0 || erased(n) ? nullptr : std::get_if<Attrs>(&node(n).attrs);
  }

  // Operands and graph outputs that are `v` itself, and views onto it that are themselves used.
  int uses(ValueId v) const;
  // The nodes that read `v` itself; those that read views onto it are not among them.
  std::vector<NodeId> readers(ValueId v) const;
  bool has_views(ValueId v) const;
  bool is_output(ValueId v) const;

  // What `v` holds, where only `v` shows it: the activation behind a reshape that keeps it dense, or `v`. kNoValue where the
  // activation (or the reshape) is used more than once.
  ValueId sole_source(ValueId v) const;

  void erase(NodeId n) { erased_[size_t(n)] = true; }
  // Makes the fused node produce `output` in place of `replaced`, which disappears. Both write the same elements; where the
  // shapes differ, `output` stays as a reshape of what the node now produces.
  void take_over(NodeId fused, NodeId replaced);

  // Drops erased nodes; values nobody uses stay without a producer. Checks the graph.
  void finish();

 private:
  Graph& graph_;
  std::vector<bool> erased_;
};

}  // namespace darkroom

// Fusion passes: each rewrites a graph into an equivalent one that moves fewer bytes or launches fewer kernels. Each has a
// name, can be switched off by it, and leaves on the node that it makes the names of those that it replaced.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/graph.h"
#include "runtime/select.h"

namespace darkroom {

struct FusionPass {
  std::string_view name;  // "group_norm_silu"
  std::string_view what;  // one line for people
  // Rewrites; the number of fusions made. For a fused op that the model's builders write themselves, `lower` takes it apart
  // where the pass is off, and `apply` counts what it leaves alone.
  int (*apply)(Graph& graph);
  int (*lower)(Graph& graph);
  // In place of apply where the fusion pays only with certain kernels: fuses where those that would be chosen can do it.
  int (*apply_for)(Graph& graph, const SelectOptions& kernels) = nullptr;
};

// All passes, in the order in which they run.
std::span<const FusionPass> fusion_passes();

// Names of passes that shall not run. check_pass_name throws usage_error, naming those that exist, on an unknown one.
using DisabledPasses = std::set<std::string, std::less<>>;
void check_pass_name(std::string_view name);

struct PassReport {
  std::string_view name;
  bool enabled = true;
  int count = 0;  // fusions made, or ops lowered where it is off
};

// Runs every pass that is not disabled. `kernels`: what the graph will be planned with.
std::vector<PassReport> run_fusion(Graph& graph, const DisabledPasses& disabled, const SelectOptions& kernels = {});

// Moves every node that depends on nothing but (some of) the named inputs into a graph of its own, called `name`. What the
// rest needs of it is an output there and an input here, both named as the node that computes it. Inputs that only moved
// nodes read are gone from `graph`. An empty graph results where nothing can move.
Graph hoist(Graph& graph, std::span<const std::string_view> inputs, std::string name);

// Makes one tensor of what a hoisted graph hands over, so that one row selects all of it: the outputs of `from`, all [R, n] of
// one dtype, become columns of one output `name` [R, Σ n]. In each of the graphs that read them, the inputs that they feed,
// [B, n], become slices of one input `name` [B, Σ n]; a graph that reads none stays as it is. Throws internal_error where the
// values are not so.
void join_handover(Graph& from, std::span<Graph* const> readers, const std::string& name);

}  // namespace darkroom

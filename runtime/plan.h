// The immutable plan of a graph: which kernel runs each node, and where in one arena each value lies.
#pragma once

#include <string>
#include <vector>

#include "runtime/graph.h"
#include "runtime/planner.h"
#include "runtime/select.h"

namespace darkroom {

// A node's operands as its kernel sees them, without memory.
KernelCall kernel_call(const Graph& graph, const Node& node);

struct PlanOptions : SelectOptions {
  int threads = 1;
};

// Where a value's memory is. Views have that of their root.
enum class Place : uint8_t {
  unused,
  arena,     // at `offset` in the arena, alive in steps first … last
  external,  // bound by name before each run: the graph's inputs and outputs
  weight,    // in the weight store
};

struct Placement {
  Place place = Place::unused;
  size_t offset = 0;
  size_t bytes = 0;
  int first = 0, last = 0;
};

struct Step {
  NodeId node = 0;
  Selection selection;
  std::string what;  // describe(): "3x3 s1 +bias"
  Cost cost;
  size_t scratch_bytes = 0;
  size_t scratch_offset = 0;  // in the arena, alive in this step alone
};

struct Plan {
  Graph graph;
  int threads = 1;
  std::vector<Step> steps;
  std::vector<Placement> placements;  // by ValueId
  size_t arena_bytes = 0;
  size_t lower_bound = 0;  // the largest live set
  size_t naive_bytes = 0;  // every value with memory of its own

  Cost total_cost() const;
  // The operands of a step, without memory.
  KernelCall call(const Step& step) const;
};

// Weights must have their stored dtype in the graph (WeightStore::resolve). Outputs must be activations, each named once.
// Throws usage_error where no kernel can run a node, internal_error where the graph is not valid.
Plan make_plan(Graph graph, const PlanOptions& options);

}  // namespace darkroom

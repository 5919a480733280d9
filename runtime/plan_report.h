// A plan as people and programs read it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "runtime/fusion.h"
#include "runtime/plan.h"

namespace darkroom {

struct ReportedPlan {
  Plan plan;
  std::vector<PassReport> passes;
};

// One line a step: kernel, what it does, shapes, GFLOP, MB, arena offset. `refused`: also each variant that was passed over.
std::string plan_text(const ReportedPlan& reported, bool refused);
// Everything that is known, for programs.
std::string plan_json(std::span<const ReportedPlan> plans);
// One self-contained page: for each plan its totals, the arena as a map of offset against time, and the steps.
std::string plan_html(std::span<const ReportedPlan> plans, const std::string& title);

}  // namespace darkroom

// Measures the kernels of a plan, so that the next plan takes the fastest.
#pragma once

#include <functional>

#include "runtime/backend.h"
#include "runtime/tuning.h"

namespace darkroom {

// Measures every kernel that could run each step of the plan, but for references, and calls where there is no choice: memory
// of its own, one run to warm up, then the median of `runs`. Calls whose kernels `tuning` knows are passed over. `measured` hears of
// each; false from it ends the work. Throws resource_error where there is no memory for a call's operands.
using Measured = std::function<bool(const std::string& key, const Tuning::Times& times)>;
void tune(const Plan& plan, Backend& backend, const SelectOptions& options, int runs, Tuning& tuning,
          const Measured& measured);

}  // namespace darkroom

// A plan held against the reference kernels, step by step, on any device: which kernel is the first to be wrong?
#pragma once

#include <memory>
#include <string>

#include "runtime/backend.h"
#include "runtime/weight_source.h"

namespace darkroom {

// Each step gets the operands that the plan really has there, once on the device by the plan's kernel and once on the host by
// `ref`, with weights packed for ref. So each step is judged on its own: errors of earlier ones do not add up.
class PlanCheck {
 public:
  // The source must outlive it. `threads` of the host run the reference.
  PlanCheck(const WeightSource& source, int threads) : source_(source), host_(make_cpu_backend(threads)) {}

  // Runs the plan once, as a run of it would. Throws internal_error at the first step that diverges, naming plan, step, node,
  // kernel, error and the worst element.
  void run(const BoundPlan& bound, Backend& backend);

  // "312 steps of 5 plans agree with ref; the largest error is 2.1e-6 (unet: down_blocks.0…, conv2d avx2_implicit)".
  std::string summary() const;

 private:
  void run_step(const BoundPlan& bound, size_t s, Backend& backend);

  const WeightSource& source_;
  std::unique_ptr<Backend> host_;
  int plans_ = 0, steps_ = 0;
  double worst_ = 0;  // as a part of its limit
  std::string worst_text_;
};

// How far a kernel may lie from `ref`, as relative L2: twice the unit roundoff of the coarsest floating type among its operands
// and output; 2e-5 for f32 alone, where what counts is the order of sums of thousands of terms. 0 for integers.
double check_limit(const KernelCall& call);

}  // namespace darkroom

// What a plan for a GPU should take by kernels/core/gpu_model.h: to be held against a card's times, and to say meanwhile which
// layers are far from their floor.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/launches.h"

namespace darkroom::bench {

struct ModelledStep {
  double seconds = 0;
  double floor = 0;   // the larger of FLOPs over the rate of the best GEMM and bytes over the bandwidth
  std::string bound;  // what takes the time: "tensor", "shared", "L2", "DRAM", "exp", "fma", "launch"
  std::vector<cuda::Launch> launches;
};

// One step of a plan: its launches one after the other.
ModelledStep model_step(const KernelDef& kernel, const KernelCall& call);

}  // namespace darkroom::bench

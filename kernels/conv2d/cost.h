// Estimates by which the convolution kernels compete (KernelDef::cycles).
#pragma once

#include "kernels/core/kernel.h"

namespace darkroom::conv2d_cost {

// Cycles of one core for the direct sums of one sample, at `macs` multiply-adds a cycle, output channels padded to `unit`.
static inline double direct_cycles(const KernelCall& call, double macs, int64_t unit) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const int64_t channels = (weight.shape[0] + unit - 1) / unit * unit;
  const double depth = double(weight.shape[1] * weight.shape[2] * weight.shape[3]);
  return double(call.out.shape[1] * call.out.shape[2]) * depth * double(channels) / macs;
}

}  // namespace darkroom::conv2d_cost

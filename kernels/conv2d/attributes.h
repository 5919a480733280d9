// conv2d and norm_conv2d as one thing: what their kernels share.
#pragma once

#include "kernels/core/kernel.h"

namespace darkroom {

// The attributes of a conv2d, or of the conv2d in a norm_conv2d.
static inline const Conv2dAttrs& conv2d_attributes(const KernelCall& call) {
  if (op_kind(*call.attrs) == OpKind::norm_conv2d) return call.attributes<NormConv2dAttrs>();
  return call.attributes<Conv2dAttrs>();
}

// Mean, scale and shift of each channel of each sample [B, 3, C]; null data and no activation where nothing is normalised.
struct ConvolutionNorm {
  TensorView coefficients;
  Activation activation = Activation::none;
};
static inline ConvolutionNorm conv2d_norm(const KernelCall& call) {
  if (op_kind(*call.attrs) != OpKind::norm_conv2d) return {};
  return {call.in[NormConv2dAttrs::kNorm], call.attributes<NormConv2dAttrs>().norm_activation};
}

// Pixel i of an enlarged line, in the source. Doubling, the usual case, spares the division.
static inline int64_t source_pixel(int64_t i, int64_t size, int64_t enlarged) {
  if (size == enlarged) return i;
  if (2 * size == enlarged) return i >> 1;
  return i * size / enlarged;
}

}  // namespace darkroom

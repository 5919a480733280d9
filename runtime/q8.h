// q8: the weights of a linear or convolution layer as whole numbers of 8 bits, 32 of them with one f16 scale: w ≈ q · scale.
//
// A block is 32 inputs of one output, in a convolution of one tap: what the inner loop of a product walks through. The values,
// [O, KH, KW, I] i8, lie apart from the scales, [O, KH, KW, ⌈I/32⌉] f16, so that either can be read in whole vectors; the last
// block of a row may be shorter. scale is the largest |w| of the block / 127, rounded up to an f16, so |w − q·scale| ≤ scale / 2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"

namespace darkroom {

inline constexpr int64_t kQ8Block = 32;

// A weight of shape [O, I] or [O, I, KH, KW] in q8: values, zeros up to a multiple of 64, scales.
struct Q8Layout {
  int64_t outputs = 0, inputs = 0, taps = 1;
  int64_t blocks() const { return (inputs + kQ8Block - 1) / kQ8Block; }  // of one output and tap
  uint64_t value_bytes() const { return uint64_t(outputs) * uint64_t(taps) * uint64_t(inputs); }
  uint64_t scales_offset() const { return (value_bytes() + 63) / 64 * 64; }
  uint64_t bytes() const { return scales_offset() + uint64_t(outputs) * uint64_t(taps) * uint64_t(blocks()) * 2; }
};
// The shape must have rank 2 or 4.
Q8Layout q8_layout(const Shape& shape);

// Whether a weight gains by it: linear and convolution layers with at least a whole block of inputs.
bool q8_takes(const Shape& shape);

// One output: weights [I, taps] as checkpoints have them ↔ values [taps, I] and scales [taps, blocks].
// False where a weight is not finite, or larger than f16 can hold.
bool q8_quantise(const Q8Layout& layout, const float* weights, int8_t* values, f16_t* scales);
void q8_dequantise(const Q8Layout& layout, const int8_t* values, const f16_t* scales, float* weights);

}  // namespace darkroom

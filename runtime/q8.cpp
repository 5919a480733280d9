#include "runtime/q8.h"

#include <algorithm>
#include <cmath>

namespace darkroom {

namespace {

constexpr float kLargest = 127;
constexpr float kLargestWeight = 65440;  // with its scale rounded up, 127 · scale is no more than f16's 65504

// The smallest f16 that is not below `x`, which is positive.
f16_t round_up(float x) {
  f16_t h = to_f16(x);
  if (to_float(h) < x) ++h.bits;
  return h;
}

}  // namespace

Q8Layout q8_layout(const Shape& shape) { return {shape[0], shape[1], shape.rank() == 4 ? shape[2] * shape[3] : 1}; }

bool q8_takes(const Shape& shape) { return (shape.rank() == 2 || shape.rank() == 4) && shape[1] >= kQ8Block; }

bool q8_quantise(const Q8Layout& layout, const float* weights, int8_t* values, f16_t* scales) {
  for (int64_t tap = 0; tap < layout.taps; ++tap)
    for (int64_t first = 0; first < layout.inputs; first += kQ8Block, ++scales) {
      const int64_t end = std::min(first + kQ8Block, layout.inputs);
      float largest = 0;
      for (int64_t i = first; i < end; ++i) {
        const float magnitude = std::abs(weights[i * layout.taps + tap]);
        if (!(magnitude <= kLargestWeight)) return false;
        largest = std::max(largest, magnitude);
      }
      *scales = round_up(largest / kLargest);
      const float scale = to_float(*scales);
      for (int64_t i = first; i < end; ++i) {
        const float q = scale > 0 ? std::nearbyint(weights[i * layout.taps + tap] / scale) : 0;
        *values++ = int8_t(std::clamp(q, -kLargest, kLargest));
      }
    }
  return true;
}

void q8_dequantise(const Q8Layout& layout, const int8_t* values, const f16_t* scales, float* weights) {
  for (int64_t tap = 0; tap < layout.taps; ++tap)
    for (int64_t first = 0; first < layout.inputs; first += kQ8Block) {
      const int64_t end = std::min(first + kQ8Block, layout.inputs);
      const float scale = to_float(*scales++);
      for (int64_t i = first; i < end; ++i) weights[i * layout.taps + tap] = scale * float(*values++);
    }
}

}  // namespace darkroom

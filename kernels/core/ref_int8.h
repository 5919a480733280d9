// Whole numbers as the `ref` kernels make them (gemm.h, conv2d.h: int8). In f32 whatever Real is: a number of 127ths lies on
// one side of a half or the other, and the fast kernels must find the same.
#pragma once

#include <cmath>

#include "kernels/core/ref_element.h"

namespace darkroom {
inline namespace DARKROOM_REF_NAMESPACE {

struct RefInt8 {
  float factor = 0, scale = 0;

  Real operator()(Real x) const { return Real(std::nearbyint(float(x) * factor)); }
};

// For numbers whose largest magnitude is `max`.
static inline RefInt8 ref_int8(Real max) {
  return max < 1e-30 ? RefInt8{} : RefInt8{127.0f / float(max), float(max) / 127.0f};
}

// For n numbers, load(i).
template <typename Load>
static RefInt8 ref_int8(int64_t n, Load load) {
  Real max = 0;
  for (int64_t i = 0; i < n; ++i) max = std::fmax(max, std::fabs(load(i)));
  return ref_int8(max);
}

}  // namespace DARKROOM_REF_NAMESPACE
}  // namespace darkroom

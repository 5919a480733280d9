// How fast kernels walk rows of channels: by offset where rows are uniform, else by the strides of all dimensions.
#pragma once

#include "kernels/core/tensor_view.h"

namespace darkroom {

// Element offset of row r of channels, counted in row-major order over all dimensions but the last.
static inline int64_t row_offset(const TensorView& v, int64_t r) {
  int64_t offset = 0;
  for (int i = v.shape.rank() - 2; i > 0; --i) {
    offset += (r % v.shape[i]) * v.stride[size_t(i)];
    r /= v.shape[i];
  }
  return v.shape.rank() >= 2 ? offset + r * v.stride[0] : 0;
}

// A dense tensor may be walked as one row per this many elements, whatever its channels.
static inline constexpr int64_t kFlatRow = 4096;

}  // namespace darkroom

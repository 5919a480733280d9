// How `ref` kernels read and write: one element at a time, of any dtype, at any strides. Fast paths do not use this.
#pragma once

#include "kernels/core/tensor_view.h"

namespace darkroom {

// Element offset of row r of channels, counted in row-major order over all dimensions but the last.
static inline int64_t ref_row_offset(const TensorView& v, int64_t r) {
  int64_t offset = 0;
  for (int i = v.rank() - 2; i >= 0; --i) {
    offset += (r % v.shape[i]) * v.stride[size_t(i)];
    r /= v.shape[i];
  }
  return offset;
}

static inline double ref_load(const TensorView& v, int64_t offset) {
  switch (v.dtype) {
    case DType::f64:
      return v.as<double>()[offset];
    case DType::f32:
      return double(v.as<float>()[offset]);
    case DType::f16:
      return double(to_float(v.as<f16_t>()[offset]));
    case DType::bf16:
      return double(to_float(v.as<bf16_t>()[offset]));
    case DType::i64:
      return double(v.as<int64_t>()[offset]);
    case DType::i32:
      return double(v.as<int32_t>()[offset]);
    case DType::u8:
      return double(v.as<uint8_t>()[offset]);
    case DType::none:
      break;
  }
  return 0.0;
}

// Rounds to the view's floating type.
static inline void ref_store(const TensorView& v, int64_t offset, double value) {
  switch (v.dtype) {
    case DType::f64:
      v.as<double>()[offset] = value;
      break;
    case DType::f32:
      v.as<float>()[offset] = float(value);
      break;
    case DType::f16:
      v.as<f16_t>()[offset] = to_f16(float(value));
      break;
    case DType::bf16:
      v.as<bf16_t>()[offset] = to_bf16(float(value));
      break;
    default:
      break;
  }
}

}  // namespace darkroom

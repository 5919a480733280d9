// How `ref` kernels read and write: one element at a time, of any dtype, at any strides. Fast paths do not use this.
//
// `Real` is what they compute in: double. The tests build the same sources once more with DARKROOM_PLAIN, in f32: the plain
// loop whose error bounds that of the fast kernels (tests/support/plain.h). An inline namespace keeps the two builds apart.
#pragma once

#include "kernels/core/tensor_view.h"

#ifdef DARKROOM_PLAIN
#define DARKROOM_REF_NAMESPACE in_f32
#else
#define DARKROOM_REF_NAMESPACE in_f64
#endif

namespace darkroom {
inline namespace DARKROOM_REF_NAMESPACE {

#ifdef DARKROOM_PLAIN
using Real = float;
#else
using Real = double;
#endif

// Element offset of row r of channels, counted in row-major order over all dimensions but the last.
static inline int64_t ref_row_offset(const TensorView& v, int64_t r) {
  int64_t offset = 0;
  for (int i = v.rank() - 2; i >= 0; --i) {
    offset += (r % v.shape[i]) * v.stride[size_t(i)];
    r /= v.shape[i];
  }
  return offset;
}

static inline Real ref_load(const TensorView& v, int64_t offset) {
  switch (v.dtype) {
    case DType::f64:
      return Real(v.as<double>()[offset]);
    case DType::f32:
      return Real(v.as<float>()[offset]);
    case DType::f16:
      return Real(to_float(v.as<f16_t>()[offset]));
    case DType::bf16:
      return Real(to_float(v.as<bf16_t>()[offset]));
    case DType::i64:
      return Real(v.as<int64_t>()[offset]);
    case DType::i32:
      return Real(v.as<int32_t>()[offset]);
    case DType::u8:
      return Real(v.as<uint8_t>()[offset]);
    case DType::none:
      break;
  }
  return 0.0;
}

// Rounds to the view's floating type.
static inline void ref_store(const TensorView& v, int64_t offset, Real value) {
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

}  // namespace DARKROOM_REF_NAMESPACE
}  // namespace darkroom

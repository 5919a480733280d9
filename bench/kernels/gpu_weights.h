// Weights as NVIDIA's libraries take them.
#pragma once

#include "kernels/core/tensor_view.h"

namespace darkroom::bench {

inline float element(const TensorView& v, int64_t i) {
  if (v.dtype == DType::f32) return v.as<float>()[i];
  return v.dtype == DType::f16 ? to_float(v.as<f16_t>()[i]) : to_float(v.as<bf16_t>()[i]);
}
inline void put(void* to, DType type, int64_t i, float x) {
  if (type == DType::f32) static_cast<float*>(to)[i] = x;
  if (type == DType::f16) static_cast<f16_t*>(to)[i] = to_f16(x);
  if (type == DType::bf16) static_cast<bf16_t*>(to)[i] = to_bf16(x);
}

// All elements of a dense tensor, as `type`, from to[at] on; where the next one goes.
inline int64_t convert(const TensorView& from, DType type, void* to, int64_t at) {
  const int64_t count = from.shape.elements();
  for (int64_t i = 0; i < count; ++i) put(to, type, at + i, element(from, i));
  return at + count;
}

}  // namespace darkroom::bench

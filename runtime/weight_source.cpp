#include "runtime/weight_source.h"

#include <cstring>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

template <typename T>
void read(const std::byte* from, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    T x;
    std::memcpy(&x, from + size_t(i) * sizeof(T), sizeof(T));
    out[i] = to_float(x);
  }
}

template <typename T, typename Round>
void write(const float* values, int64_t count, std::byte* out, Round round) {
  for (int64_t i = 0; i < count; ++i) {
    const T x = round(values[i]);
    std::memcpy(out + size_t(i) * sizeof(T), &x, sizeof(T));
  }
}

}  // namespace

void read_elements(DType dtype, const std::byte* data, int64_t first, int64_t count, float* out) {
  const std::byte* from = data + size_t(first) * dtype_size(dtype);
  switch (dtype) {
    case DType::f32:
      return read<float>(from, count, out);
    case DType::f16:
      return read<f16_t>(from, count, out);
    case DType::bf16:
      return read<bf16_t>(from, count, out);
    default:
      throw internal_error("weights of type {} cannot be read", dtype_name(dtype));
  }
}

void write_elements(DType dtype, const float* values, int64_t count, std::byte* out) {
  switch (dtype) {
    case DType::f32:
      return write<float>(values, count, out, [](float x) { return x; });
    case DType::f16:
      return write<f16_t>(values, count, out, to_f16);
    case DType::bf16:
      return write<bf16_t>(values, count, out, to_bf16);
    default:
      throw internal_error("weights of type {} cannot be written", dtype_name(dtype));
  }
}

}  // namespace darkroom

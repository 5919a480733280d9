#include "runtime/weight_source.h"

#include <algorithm>
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

// All bits of the exponent are set in NaN and the infinities, and in no other number. Blocks are looked at without a branch.
template <typename Bits>
int64_t first_with(Bits exponent, const std::byte* data, int64_t count) {
  constexpr int64_t kBlock = 4096;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t n = std::min(kBlock, count - begin);
    const auto is_one = [&](int64_t i) {
      Bits bits;
      std::memcpy(&bits, data + size_t(begin + i) * sizeof(bits), sizeof(bits));
      return (bits & exponent) == exponent;
    };
    bool any = false;
    for (int64_t i = 0; i < n; ++i) any |= is_one(i);
    for (int64_t i = 0; any && i < n; ++i)
      if (is_one(i)) return begin + i;
  }
  return -1;
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

void require_finite(const WeightView& weight, std::string_view name, const std::string& where) {
  const int64_t bad = first_not_finite(weight.dtype, weight.data, weight.shape.elements());
  if (bad < 0) return;
  float value = 0;
  read_elements(weight.dtype, weight.data, bad, 1, &value);
  throw file_error("{}: {} holds {} at element {}", where, name, value, bad);
}

int64_t first_not_finite(DType dtype, const std::byte* data, int64_t count) {
  switch (dtype) {
    case DType::f32:
      return first_with<uint32_t>(0x7f800000, data, count);
    case DType::f16:
      return first_with<uint16_t>(0x7c00, data, count);
    case DType::bf16:
      return first_with<uint16_t>(0x7f80, data, count);
    default:
      throw internal_error("weights of type {} cannot be read", dtype_name(dtype));
  }
}

}  // namespace darkroom

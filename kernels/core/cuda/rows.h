// How CUDA kernels walk rows of channels, eight channels of a row to a thread.
#pragma once

#include "kernels/core/cuda/device.h"
#include "kernels/core/cuda/host.h"
#include "kernels/core/epilogue.h"

namespace darkroom::cuda {

// Where row r of a view begins, counted in row-major order over all dimensions but the last.
struct RowMap {
  int64_t stride[3] = {};        // of the dimensions outside of the channels, the innermost last
  uint32_t size[3] = {1, 1, 0};  // size[2] = 0: rows are uniform, stride[2] apart
};

inline RowMap row_map(const TensorView& v) {
  RowMap map;
  map.stride[2] = v.rank() >= 2 ? v.row_stride() : 0;
  if (v.rows_uniform()) return map;
  for (int i = 0; i + 1 < v.rank(); ++i) {
    const int at = i + 4 - v.rank();
    map.stride[at] = v.stride[size_t(i)];
    map.size[at] = uint32_t(v.shape[i]);
  }
  return map;
}

DARKROOM_DEVICE int64_t row_offset(const RowMap& map, uint32_t row) {
  if (map.size[2] == 0) return row * map.stride[2];
  const uint32_t outer = row / map.size[2];
  return (row % map.size[2]) * map.stride[2] + (outer % map.size[1]) * map.stride[1] +
         (outer / map.size[1]) * map.stride[0];
}

// Whether every row can be read 16 bytes at a time from channel 0 on, and ends with a whole eight.
inline bool rows_of_eights(const TensorView& v) {
  if (!v.present()) return true;
  bool ok = is_aligned(v.data, 16) && v.channels() % 8 == 0;
  for (int i = 0; i + 1 < v.rank(); ++i) ok = ok && v.stride[size_t(i)] * int64_t(dtype_size(v.dtype)) % 16 == 0;
  return ok;
}

// Eight neighbours as f32. With `vector`, p is aligned to 16 bytes; else the first n (up to 8) are read, the rest are 0.
template <typename T>
DARKROOM_DEVICE void load8(float (&x)[8], Global<const T> p, bool vector, int64_t n) {
  if (!vector) {
    DARKROOM_UNROLL
    for (int i = 0; i < 8; ++i) x[i] = i < n ? widen(load(p + i)) : 0.0f;
  } else if constexpr (sizeof(T) == 4) {
    DARKROOM_UNROLL
    for (int half = 0; half < 2; ++half) {
      const auto v = load(as<Vec<float, 4>>(p + 4 * half));
      DARKROOM_UNROLL
      for (int i = 0; i < 4; ++i) x[4 * half + i] = v.v[i];
    }
  } else {
    const auto v = load(as<Vec<uint32_t, 4>>(p));
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const Pair pair = unpack2<T>(v.v[i]);
      x[2 * i] = pair.low;
      x[2 * i + 1] = pair.high;
    }
  }
}

template <typename T>
DARKROOM_DEVICE void store8(Global<T> p, const float (&x)[8], bool vector, int64_t n) {
  if (!vector) {
    DARKROOM_UNROLL
    for (int i = 0; i < 8; ++i)
      if (i < n) store(p + i, narrow<T>(x[i]));
  } else if constexpr (sizeof(T) == 4) {
    DARKROOM_UNROLL
    for (int half = 0; half < 2; ++half)
      store(as<Vec<float, 4>>(p + 4 * half),
            Vec<float, 4>{{x[4 * half], x[4 * half + 1], x[4 * half + 2], x[4 * half + 3]}});
  } else {
    Vec<uint32_t, 4> v;
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) v.v[i] = pack2<T>(x[2 * i], x[2 * i + 1]);
    store(as<Vec<uint32_t, 4>>(p), v);
  }
}

DARKROOM_DEVICE float silu(float x) { return x / (1.0f + expf(-x)); }
DARKROOM_DEVICE float gelu(float x) { return 0.5f * x * erfcf(-0.70710678f * x); }
DARKROOM_DEVICE float activate(Activation how, float x) {
  if (how == Activation::silu) return silu(x);
  if (how == Activation::gelu) return gelu(x);
  if (how == Activation::quick_gelu) return x / (1.0f + expf(-1.702f * x));
  if (how == Activation::relu) return x < 0.0f ? 0.0f : x;
  return x;
}

DARKROOM_DEVICE float warp_sum(float x) {
  DARKROOM_UNROLL
  for (int m = kWarp / 2; m > 0; m /= 2) x += shuffle_xor(x, m);
  return x;
}
DARKROOM_DEVICE float warp_max(float x) {
  DARKROOM_UNROLL
  for (int m = kWarp / 2; m > 0; m /= 2) x = fmaxf(x, shuffle_xor(x, m));
  return x;
}

// --- host -------------------------------------------------------------------------------------------------------------

// Two types of activations that one kernel reads and writes: equal, or one of them f32.
inline bool is_type_pair(DType a, DType b) {
  const auto known = [](DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; };
  return known(a) && known(b) && (a == b || a == DType::f32 || b == DType::f32);
}
// Calls f with values of both types.
template <typename F>
void by_types(DType in, DType out, F f) {
  by_type(in, [&](auto a) {
    by_type(out, [&](auto b) {
      using A = decltype(a);
      using B = decltype(b);
      if constexpr (std::is_same_v<A, B> || std::is_same_v<A, float> || std::is_same_v<B, float>) f(a, b);
    });
  });
}

// Rows and elements are counted in 32 bits.
inline bool fits_32_bits(const TensorView& v) { return v.rows() * ceil_div(v.channels(), 8) < (int64_t(1) << 31); }

}  // namespace darkroom::cuda

// How CUDA kernels walk rows of channels, four or eight channels of a row to a thread.
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

// Channels that a thread takes of a row of activations of these types: what 16 bytes of the wider one hold. Neighbouring threads
// then move whole sectors; eight f32 to a thread would be two accesses that touch every sector by half.
template <typename A, typename B>
inline constexpr int kRun = sizeof(A) == 4 || sizeof(B) == 4 ? 4 : 8;

// Whether every row can be read in runs of n channels from channel 0 on, each with accesses of up to 16 bytes, and ends with a
// whole one.
inline bool rows_of_runs(const TensorView& v, int n) {
  if (!v.present()) return true;
  const int64_t size = int64_t(dtype_size(v.dtype)), bytes = n * size < 16 ? n * size : 16;
  bool ok = is_aligned(v.data, uintptr_t(bytes)) && v.channels() % n == 0;
  for (int i = 0; i + 1 < v.rank(); ++i) ok = ok && v.stride[size_t(i)] * size % bytes == 0;
  return ok;
}
inline bool rows_of_eights(const TensorView& v) { return rows_of_runs(v, 8); }

// N neighbours, 4 or 8, as f32. With `vector`, p is aligned as rows_of_runs() has it; else those among the first n are read, kApart
// from each other, and the rest are 0.
template <typename T, int kApart = 1, int N>
DARKROOM_DEVICE void load_run(float (&x)[N], Global<const T> p, bool vector, int64_t n) {
  static_assert(N == 4 || N == 8);
  if (!vector) {
    DARKROOM_UNROLL
    for (int i = 0; i < N; ++i) x[i] = i * kApart < n ? widen(load(p + i * kApart)) : 0.0f;
  } else if constexpr (sizeof(T) == 4) {
    DARKROOM_UNROLL
    for (int part = 0; part < N; part += 4) {
      const auto v = load(as<Vec<float, 4>>(p + part));
      DARKROOM_UNROLL
      for (int i = 0; i < 4; ++i) x[part + i] = v.v[i];
    }
  } else {
    const auto v = load(as<Vec<uint32_t, N / 2>>(p));
    DARKROOM_UNROLL
    for (int i = 0; i < N / 2; ++i) {
      const Pair pair = unpack2<T>(v.v[i]);
      x[2 * i] = pair.low;
      x[2 * i + 1] = pair.high;
    }
  }
}

template <typename T, int kApart = 1, int N>
DARKROOM_DEVICE void store_run(Global<T> p, const float (&x)[N], bool vector, int64_t n) {
  static_assert(N == 4 || N == 8);
  if (!vector) {
    DARKROOM_UNROLL
    for (int i = 0; i < N; ++i)
      if (i * kApart < n) store(p + i * kApart, narrow<T>(x[i]));
  } else if constexpr (sizeof(T) == 4) {
    DARKROOM_UNROLL
    for (int part = 0; part < N; part += 4)
      store(as<Vec<float, 4>>(p + part), Vec<float, 4>{{x[part], x[part + 1], x[part + 2], x[part + 3]}});
  } else {
    Vec<uint32_t, N / 2> v;
    DARKROOM_UNROLL
    for (int i = 0; i < N / 2; ++i) v.v[i] = pack2<T>(x[2 * i], x[2 * i + 1]);
    store(as<Vec<uint32_t, N / 2>>(p), v);
  }
}

template <typename T>
DARKROOM_DEVICE void load8(float (&x)[8], Global<const T> p, bool vector, int64_t n) {
  load_run<T>(x, p, vector, n);
}
template <typename T>
DARKROOM_DEVICE void store8(Global<T> p, const float (&x)[8], bool vector, int64_t n) {
  store_run<T>(p, x, vector, n);
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

// Rows, and the threads that share them, are counted in 32 bits.
inline bool fits_32_bits(const TensorView& v) { return v.rows() * ceil_div(v.channels(), 4) < (int64_t(1) << 31); }

}  // namespace darkroom::cuda

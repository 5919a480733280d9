// The last step of winograd4_on_simd.h for one vector of channels of a tile: the output's transform, the epilogue, the moments of what
// is stored. Simd is what is asked for there.
#pragma once

#include "kernels/conv2d/slab_moments.h"
#include "kernels/conv2d/winograd4.h"
#include "kernels/core/dtype.h"
#include "kernels/core/epilogue.h"
#include "kernels/core/tensor_view.h"

namespace darkroom::winograd4 {

// Where a tile of the output lies.
struct TilePlace {
  int64_t sample, y, x;
};
static inline int64_t offset_of(const TensorView& v, const TilePlace& at) {
  return at.sample * v.stride[0] + at.y * v.stride[1] + at.x * v.stride[2];
}

// Asks for `channels` channels, from n on, of a tile that will be read or written soon: the output lies in memory in pieces
// of 128 bytes that no hardware prefetcher foresees.
static inline void prefetch_tile(const TensorView& v, const TilePlace& at, int64_t n, int64_t channels) {
  const int64_t element = int64_t(dtype_size(v.dtype));
  const char* first = v.as<char>() + (offset_of(v, at) + n) * element;
  for (int64_t i = 0; i < kTile; ++i)
    for (int64_t j = 0; j < kTile; ++j)
      for (int64_t c = 0; c < channels * element; c += 64)
        _mm_prefetch(first + (i * v.stride[1] + j * v.stride[2]) * element + c, _MM_HINT_T0);
}

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

// A tensor's elements at the first pixel of a tile, and how far it is to the next; null where there is no such tensor.
template <typename T>
struct TileMemory {
  T* first;
  int64_t line, pixel;

  TileMemory(const TensorView& v, const TilePlace& at, int64_t n)
      : first(v.present() ? v.as<T>() + offset_of(v, at) + n : nullptr), line(v.stride[1]), pixel(v.stride[2]) {}
  T* at(int64_t i, int64_t j) const { return first + i * line + j * pixel; }
};

}  // namespace

// The output's transform and the epilogue for one vector of channels of a tile, of which the first `part` exist. With kMoments, the
// moments of what was stored. kWhole: all 16 pixels and no activation, so that the values stay in registers.
template <typename Simd, bool kMoments, bool kWhole, typename Out>
static inline slab_moments::Piece<Simd> store_vector(const float* sums, int64_t point, const Vector<Simd>& added,
                                                     Activation activation, int64_t lines, int64_t pixels,
                                                     const TileMemory<Out>& out, const TileMemory<const Out>& residual,
                                                     int64_t part) {
  Vector<Simd> pixel[16];
  transform_output<Simd>(sums, point, pixel);
  slab_moments::PieceSums<Simd> moments(added);
#pragma GCC unroll 4
  for (int64_t i = 0; i < (kWhole ? kTile : lines); ++i)
#pragma GCC unroll 4
    for (int64_t j = 0; j < (kWhole ? kTile : pixels); ++j) {
      Vector<Simd> value = pixel[4 * i + j] + added;
      if (!kWhole) value = Simd::activate(activation, value);
      if (residual.first) value = value + Simd::load(residual.at(i, j), part);
      Simd::store(out.at(i, j), value, part);
      if (!kMoments) continue;
      if (sizeof(Out) < sizeof(float)) value = Simd::load(out.at(i, j), part);
      if (i + j == 0) moments.origin = value;
      moments.add(kWhole ? int(j % 2) : 0, value);
    }
  return moments.of(kWhole ? kTile * kTile : lines * pixels);
}

}  // namespace darkroom::winograd4

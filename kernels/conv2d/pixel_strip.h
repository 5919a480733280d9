// Where a convolution kernel reads its input: a strip of pixels, some channels of them, in f32 and in L1. Whatever the input
// is made of (two sources, an enlarged picture, zeros outside, bf16, a norm yet to be applied) ends here.
//
// Simd is an instruction set's vectors, as in winograd4_on_simd.h. Static for the reason that simd_avx2.h gives.
#pragma once

#include <immintrin.h>

#include "kernels/conv2d/attributes.h"
#include "kernels/core/dtype.h"
#include "kernels/core/exp2_on_simd.h"

namespace darkroom::pixel_strip {

struct Source {
  TensorView view;
  int64_t first_channel = 0, channels = 0;  // its place in the concat of both sources
};

// The input of a convolution as its taps see it.
struct Picture {
  Source source[2];
  int sources = 1;
  int64_t height = 0, width = 0;                    // of the sources
  int64_t enlarged_height = 0, enlarged_width = 0;  // what taps and padding see
  ConvolutionNorm norm;
};

static inline Picture picture_of(const KernelCall& call) {
  const Conv2dAttrs& attrs = conv2d_attributes(call);
  const TensorView &x = call.in[Conv2dAttrs::kX], &x2 = call.in[Conv2dAttrs::kX2];
  Picture p;
  p.source[0] = {x, 0, x.shape[3]};
  if (x2.present()) p.source[1] = {x2, x.shape[3], x2.shape[3]}, p.sources = 2;
  p.height = x.shape[1];
  p.width = x.shape[2];
  p.enlarged_height = attrs.upsample_height > 0 ? attrs.upsample_height : p.height;
  p.enlarged_width = attrs.upsample_width > 0 ? attrs.upsample_width : p.width;
  p.norm = conv2d_norm(call);
  return p;
}

// x · sigmoid(x), as x / (1 + 2^t), t = −x · log2(e). The rounding of t makes a relative error of |x| · 2^-24 where x is negative
// and the result small; else below 2e-7. 16 operations to the 26 of an exact one: it is computed 1.6 times a pixel here.
template <typename Simd>
static inline typename Simd::Vector silu(typename Simd::Vector x) {
  // NaN survives in x.
  const auto t = Simd::max(Simd::set(-126.0f), Simd::min(Simd::set(126.0f), x * Simd::set(-1.44269504f)));
  const Exp2<Simd> e = exp2<Simd>(t);
  return x / Simd::fmadd(e.mantissa, e.power, Simd::set(1.0f));
}

// Applies the norm to n channels from c on of one pixel of sample b, in place.
template <typename Simd>
static inline void normalize_pixel(const ConvolutionNorm& norm, int64_t b, int64_t c, int64_t n, float* x) {
  const TensorView& k = norm.coefficients;
  const float* mean = k.as<float>() + b * k.stride[0] + c;
  const float *scale = mean + k.stride[1], *shift = scale + k.stride[1];
  const bool is_silu = norm.activation == Activation::silu;
  for (int64_t i = 0; i < n; i += Simd::kLanes) {
    const int64_t left = n - i;
    typename Simd::Vector v = Simd::load(x + i, left) - Simd::load(mean + i, left);
    v = Simd::fmadd(v, Simd::load(scale + i, left), Simd::load(shift + i, left));
    Simd::store(x + i, is_silu ? silu<Simd>(v) : Simd::activate(norm.activation, v), left);
  }
}

// As source_pixel(); -1 outside.
static inline int64_t source_index(int64_t i, int64_t size, int64_t enlarged) {
  return i < 0 || i >= enlarged ? -1 : source_pixel(i, size, enlarged);
}

// n elements of one pixel to f32.
template <typename Simd, typename T>
static inline void widen_pixel(const T* from, int64_t n, float* to) {
  for (int64_t c = 0; c < n; c += Simd::kLanes) Simd::store(to + c, Simd::load(from + c, n - c), n - c);
}

template <typename Simd>
static inline void zero_pixel(float* to, int64_t n) {
  for (int64_t c = 0; c < n; c += Simd::kLanes) Simd::store(to + c, Simd::set(0.0f), n - c);
}

static inline void prefetch_to_l2(const char* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(p + i, _MM_HINT_T1);
}

// Channels [c, c + n) of `lines` × `pixels` pixels, of which the first is (top, left) of sample b's enlarged picture, to
// strip [lines][pixels][stride]. n is at most `stride`, which is a multiple of Simd::kLanes; channels behind n are zero up to a whole
// vector.
template <typename Simd, int64_t kMaxPixels>
static inline void fill(const Picture& p, int64_t b, int64_t top, int64_t left, int64_t lines, int64_t pixels,
                        int64_t c, int64_t n, float* strip, int64_t stride) {
  int64_t columns[kMaxPixels];
  for (int64_t x = 0; x < pixels; ++x) columns[x] = source_index(left + x, p.width, p.enlarged_width);
  for (int s = 0; s < p.sources; ++s) {
    const Source& source = p.source[s];
    const int64_t begin = c > source.first_channel ? c : source.first_channel;
    const int64_t behind = source.first_channel + source.channels, end = c + n < behind ? c + n : behind;
    if (begin >= end) continue;
    // Strips follow each other along the channels, then along the line: what the next one reads is on its way while this one
    // is transformed. No hardware prefetcher sees such a pattern.
    const int64_t element = int64_t(dtype_size(source.view.dtype));
    const int64_t begin_of_next = (pixels - 2) * source.view.stride[2] - (begin - source.first_channel);
    for (int64_t y = 0; y < lines; ++y) {
      const int64_t row = source_index(top + y, p.height, p.enlarged_height);
      const int64_t line = b * source.view.stride[0] + row * source.view.stride[1] + begin - source.first_channel;
      float* to = strip + y * pixels * stride + begin - c;
      for (int64_t x = 0; x < pixels; ++x, to += stride) {
        if (row < 0 || columns[x] < 0) {
          zero_pixel<Simd>(to, end - begin);
          continue;
        }
        const int64_t at = line + columns[x] * source.view.stride[2];
        const int64_t ahead = end < behind ? end - begin : begin_of_next;
        prefetch_to_l2(source.view.as<char>() + (at + ahead) * element, (end - begin) * element);
        if (source.view.dtype == DType::bf16)
          widen_pixel<Simd>(source.view.as<bf16_t>() + at, end - begin, to);
        else
          widen_pixel<Simd>(source.view.as<float>() + at, end - begin, to);
        if (p.norm.coefficients.present()) normalize_pixel<Simd>(p.norm, b, begin, end - begin, to);
      }
    }
  }
  if (n % Simd::kLanes == 0) return;
  for (int64_t i = 0; i < lines * pixels; ++i)
    zero_pixel<Simd>(strip + i * stride + n, Simd::kLanes - n % Simd::kLanes);
}

}  // namespace darkroom::pixel_strip

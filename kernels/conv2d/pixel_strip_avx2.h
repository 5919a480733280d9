// Where a convolution kernel reads its input: a strip of pixels, some channels of them, in f32 and in L1. Whatever the input
// is made of (two sources, an enlarged picture, zeros outside, bf16, a norm yet to be applied) ends here.
//
// For translation units compiled with -mavx2 -mfma -mf16c; see simd_avx2.h for why everything here is static.
#pragma once

#include "kernels/conv2d/attributes.h"
#include "kernels/core/simd_avx2.h"

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
// and the result small; else below 2e-7. 16 operations to simd::silu's 26: it is computed 1.6 times a pixel here.
static inline __m256 silu(__m256 x) {
  // The integer part of t appears in the low bits of t + magic, already biased as an exponent is.
  const __m256 magic = _mm256_set1_ps(0x1.8p23f + 127.0f), limit = _mm256_set1_ps(126.0f);
  __m256 t = _mm256_mul_ps(x, _mm256_set1_ps(-1.44269504f));
  t = _mm256_max_ps(_mm256_sub_ps(_mm256_setzero_ps(), limit), _mm256_min_ps(limit, t));  // NaN survives in x
  const __m256 shifted = _mm256_add_ps(t, magic);
  const __m256 f = _mm256_sub_ps(t, _mm256_sub_ps(shifted, magic));  // in [-1/2, 1/2]
  // Minimax polynomial of (2^f - 1) / f, relative to 2^f.
  __m256 p = _mm256_set1_ps(1.54614449e-4f);
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.3400428e-3f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(9.61805694e-3f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.55032715e-2f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.240226507f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.693147182f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
  const __m256 power = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
  return _mm256_div_ps(x, _mm256_fmadd_ps(p, power, _mm256_set1_ps(1.0f)));
}

// Applies the norm to n channels from c on of one pixel of sample b, in place.
static inline void normalize_pixel(const ConvolutionNorm& norm, int64_t b, int64_t c, int64_t n, float* x) {
  const TensorView& k = norm.coefficients;
  const float* mean = k.as<float>() + b * k.stride[0] + c;
  const float *scale = mean + k.stride[1], *shift = scale + k.stride[1];
  const bool is_silu = norm.activation == Activation::silu;
  const auto value = [&](__m256 v, __m256 m, __m256 a, __m256 s) {
    v = _mm256_fmadd_ps(_mm256_sub_ps(v, m), a, s);
    return is_silu ? silu(v) : simd::activate(norm.activation, v);
  };
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    simd::store(x + i, value(simd::load(x + i), simd::load(mean + i), simd::load(scale + i), simd::load(shift + i)));
  if (i == n) return;
  const int left = int(n - i);
  simd::store_n(x + i,
                value(simd::load_n(x + i, left), simd::load_n(mean + i, left), simd::load_n(scale + i, left),
                      simd::load_n(shift + i, left)),
                left);
}

// Pixel i of an enlarged line, in the source; -1 outside. Doubling, the usual case, spares the division.
static inline int64_t source_index(int64_t i, int64_t size, int64_t enlarged) {
  if (i < 0 || i >= enlarged) return -1;
  if (size == enlarged) return i;
  if (2 * size == enlarged) return i >> 1;
  return i * size / enlarged;
}

// n elements of one pixel to f32.
template <typename T>
static inline void widen_pixel(const T* from, int64_t n, float* to) {
  int64_t c = 0;
  for (; c + 8 <= n; c += 8) simd::store(to + c, simd::load(from + c));
  if (c < n) simd::store_n(to + c, simd::load_n(from + c, int(n - c)), int(n - c));
}

static inline void zero_pixel(float* to, int64_t n) {
  int64_t c = 0;
  for (; c + 8 <= n; c += 8) simd::store(to + c, _mm256_setzero_ps());
  if (c < n) simd::store_n(to + c, _mm256_setzero_ps(), int(n - c));
}

static inline void prefetch_to_l2(const char* p, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) _mm_prefetch(p + i, _MM_HINT_T1);
}

// Channels [c, c + n) of `lines` × `pixels` pixels, of which the first is (top, left) of sample b's enlarged picture, to
// strip [lines][pixels][stride]. n is at most `stride`, which is a multiple of 8; channels behind n are zero up to a whole
// vector.
template <int64_t kMaxPixels>
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
          zero_pixel(to, end - begin);
          continue;
        }
        const int64_t at = line + columns[x] * source.view.stride[2];
        const int64_t ahead = end < behind ? end - begin : begin_of_next;
        prefetch_to_l2(source.view.as<char>() + (at + ahead) * element, (end - begin) * element);
        if (source.view.dtype == DType::bf16)
          widen_pixel(source.view.as<bf16_t>() + at, end - begin, to);
        else
          widen_pixel(source.view.as<float>() + at, end - begin, to);
        if (p.norm.coefficients.present()) normalize_pixel(p.norm, b, begin, end - begin, to);
      }
    }
  }
  if (n % 8 == 0) return;
  for (int64_t i = 0; i < lines * pixels; ++i) zero_pixel(strip + i * stride + n, 8 - n % 8);
}

}  // namespace darkroom::pixel_strip

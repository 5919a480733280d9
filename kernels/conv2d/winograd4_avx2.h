// The three transforms of Winograd's F(4×4, 3×3) on eight f32 lanes, one channel a lane: 36 multiplications in place of 144.
//
//   Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        d 6×6 pixels of the input, g 3×3 taps, Y 4×4 pixels of the output
//
// Points 0, 1, −1, ½, −2 and ∞. Their relative error is 1.6 times below that of 0, ±1, ±2 (2.8e-6 against 4.5e-6 RMS at 640
// channels): all factors but thirds, fifths and fifteenths, which the weights take, are powers of two or 1.5.
//
//        ⎡1 −1.5 −2   1.5  1  0⎤        ⎡   1       0      0  ⎤
//        ⎢0 −1    0.5 2.5  1  0⎥        ⎢  1/3     1/3    1/3 ⎥        ⎡1 1  1  1   1 0⎤
//   Bᵀ = ⎢0  1   −2.5 0.5  1  0⎥    G = ⎢ −1/3     1/3   −1/3 ⎥   Aᵀ = ⎢0 1 −1 1/2 −2 0⎥
//        ⎢0 −2   −1   2    1  0⎥        ⎢−16/15  −8/15  −4/15 ⎥        ⎢0 1  1 1/4  4 0⎥
//        ⎢0  0.5 −1  −0.5  1  0⎥        ⎢  1/15   −2/15   4/15⎥        ⎣0 1 −1 1/8 −8 1⎦
//        ⎣0  1   −1.5 −2  1.5 1⎦        ⎣   0       0      1  ⎦
//
// Source: Lavin, Gray, Fast Algorithms for Convolutional Neural Networks (2016); Barabasz et al., Error Analysis and Improving
// the Accuracy of Winograd Convolution (2018), for the choice of points.
//
// For translation units compiled with -mavx2 -mfma -mf16c; see simd_avx2.h for why everything here is static.
#pragma once

#include "kernels/core/simd_avx2.h"

namespace darkroom::winograd4 {

inline constexpr int64_t kTile = 4;     // pixels of the output, each way
inline constexpr int64_t kWindow = 6;   // pixels of the input, each way
inline constexpr int64_t kPoints = 36;  // products of a tile
inline constexpr int64_t kTaps = 9;

// t = Bᵀ d
static inline void input_line(const __m256 (&d)[6], __m256 (&t)[6]) {
  const __m256 half = _mm256_set1_ps(0.5f), three_halves = _mm256_set1_ps(1.5f), two = _mm256_set1_ps(2.0f);
  const __m256 d20 = _mm256_sub_ps(d[2], d[0]), d31 = _mm256_sub_ps(d[3], d[1]);
  const __m256 d42 = _mm256_sub_ps(d[4], d[2]), d53 = _mm256_sub_ps(d[5], d[3]);
  const __m256 even = _mm256_fmadd_ps(three_halves, d[3], d42), odd = _mm256_fmadd_ps(three_halves, d[2], d31);
  t[0] = _mm256_fmadd_ps(three_halves, d31, _mm256_sub_ps(d42, d20));
  t[1] = _mm256_add_ps(even, odd);
  t[2] = _mm256_sub_ps(even, odd);
  t[3] = _mm256_fmadd_ps(two, d31, d42);
  t[4] = _mm256_fnmadd_ps(half, d31, d42);
  t[5] = _mm256_fmadd_ps(three_halves, d42, _mm256_sub_ps(d53, d31));
}

// t = G g
static inline void weight_line(__m256 g0, __m256 g1, __m256 g2, __m256 (&t)[6]) {
  const __m256 third = _mm256_set1_ps(1.0f / 3), fifteenth = _mm256_set1_ps(1.0f / 15);
  const __m256 outer = _mm256_mul_ps(third, _mm256_add_ps(g0, g2)), inner = _mm256_mul_ps(third, g1);
  t[0] = g0;
  t[1] = _mm256_add_ps(outer, inner);
  t[2] = _mm256_sub_ps(inner, outer);
  // −16 g0 − 8 g1 − 4 g2 and g0 − 2 g1 + 4 g2, in fifteenths.
  const __m256 a = _mm256_fmadd_ps(_mm256_set1_ps(2.0f), g1, g2), b = _mm256_fnmadd_ps(_mm256_set1_ps(0.5f), g1, g2);
  t[3] = _mm256_mul_ps(_mm256_set1_ps(-4.0f / 15), _mm256_fmadd_ps(_mm256_set1_ps(4.0f), g0, a));
  t[4] = _mm256_mul_ps(fifteenth, _mm256_fmadd_ps(_mm256_set1_ps(4.0f), b, g0));
  t[5] = g2;
}

// y = Aᵀ m
static inline void output_line(const __m256 (&m)[6], __m256 (&y)[4]) {
  const __m256 a = _mm256_add_ps(m[1], m[2]), b = _mm256_sub_ps(m[1], m[2]);
  y[0] = _mm256_add_ps(_mm256_add_ps(m[0], a), _mm256_add_ps(m[3], m[4]));
  y[1] = _mm256_fmadd_ps(_mm256_set1_ps(0.5f), m[3], _mm256_fnmadd_ps(_mm256_set1_ps(2.0f), m[4], b));
  y[2] = _mm256_fmadd_ps(_mm256_set1_ps(0.25f), m[3], _mm256_fmadd_ps(_mm256_set1_ps(4.0f), m[4], a));
  y[3] = _mm256_fmadd_ps(_mm256_set1_ps(0.125f), m[3],
                         _mm256_fnmadd_ps(_mm256_set1_ps(8.0f), m[4], _mm256_add_ps(b, m[5])));
}

// Bᵀ d B for 8 channels: pixel (y, x) at d[y · line + x · pixel], point (i, j) to v[(6 i + j) · point].
static inline void transform_input(const float* d, int64_t line, int64_t pixel, float* v, int64_t point) {
  __m256 columns[6][6];
#pragma GCC unroll 6
  for (int x = 0; x < 6; ++x) {
    __m256 in[6], t[6];
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) in[y] = _mm256_loadu_ps(d + y * line + x * pixel);
    input_line(in, t);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) columns[i][x] = t[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    __m256 t[6];
    input_line(columns[i], t);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) _mm256_storeu_ps(v + (6 * i + j) * point, t[j]);
  }
}

// G g Gᵀ for 8 output channels: tap t at g + t · tap, in the stored type; point p to u[p · point].
template <typename W>
static inline void transform_weight(const W* g, int64_t tap, float* u, int64_t point) {
  __m256 columns[6][3];
#pragma GCC unroll 3
  for (int x = 0; x < 3; ++x) {
    __m256 t[6];
    weight_line(simd::load(g + x * tap), simd::load(g + (3 + x) * tap), simd::load(g + (6 + x) * tap), t);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) columns[i][x] = t[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    __m256 t[6];
    weight_line(columns[i][0], columns[i][1], columns[i][2], t);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) _mm256_storeu_ps(u + (6 * i + j) * point, t[j]);
  }
}

// Aᵀ m A for 8 output channels: point p at m[p · point]; pixel (y, x) to y[4 y + x].
static inline void transform_output(const float* m, int64_t point, __m256 (&out)[16]) {
  __m256 rows[4][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    __m256 in[6], y[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) in[i] = _mm256_loadu_ps(m + (6 * i + j) * point);
    output_line(in, y);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) rows[i][j] = y[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m256 y[4];
    output_line(rows[i], y);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) out[4 * i + j] = y[j];
  }
}

}  // namespace darkroom::winograd4

// The three transforms of Winograd's F(2×2, 3×3) on sixteen f32 lanes, one channel a lane: 16 multiplications in place of 36.
//
//   Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        d 4×4 pixels of the input, g 3×3 taps, Y 2×2 pixels of the output
//
//        ⎡1  0 −1  0⎤        ⎡ 1    0    0 ⎤
//   Bᵀ = ⎢0  1  1  0⎥    G = ⎢1/2  1/2  1/2⎥    Aᵀ = ⎡1 1  1  0⎤
//        ⎢0 −1  1  0⎥        ⎢1/2 −1/2  1/2⎥         ⎣0 1 −1 −1⎦
//        ⎣0  1  0 −1⎦        ⎣ 0    0    1 ⎦
//
// The one form whose factors are so small that the products may be of bf16: relative RMS 4.1e-3 where direct sums of bf16
// products have 2.3e-3 (F(4×4): 1.5e-2).   Source: Lavin, Gray, Fast Algorithms for Convolutional Neural Networks (2016).
//
// For translation units compiled for AVX-512; see simd_avx512.h.
#pragma once

#include "kernels/core/simd_avx512.h"

namespace darkroom::winograd2 {

inline constexpr int64_t kTile = 2;     // pixels of the output, each way
inline constexpr int64_t kWindow = 4;   // pixels of the input, each way
inline constexpr int64_t kPoints = 16;  // products of a tile
inline constexpr int64_t kTaps = 9;

// Bᵀ d B: pixel (y, x) at d[4 y + x], point (i, j) at v[4 i + j].
static inline void transform_input(const __m512 (&d)[16], __m512 (&v)[16]) {
  __m512 t[16];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    t[x] = _mm512_sub_ps(d[x], d[8 + x]);
    t[4 + x] = _mm512_add_ps(d[4 + x], d[8 + x]);
    t[8 + x] = _mm512_sub_ps(d[8 + x], d[4 + x]);
    t[12 + x] = _mm512_sub_ps(d[4 + x], d[12 + x]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    v[i] = _mm512_sub_ps(t[i], t[i + 2]);
    v[i + 1] = _mm512_add_ps(t[i + 1], t[i + 2]);
    v[i + 2] = _mm512_sub_ps(t[i + 2], t[i + 1]);
    v[i + 3] = _mm512_sub_ps(t[i + 1], t[i + 3]);
  }
}

// t = G g
static inline void weight_line(__m512 g0, __m512 g1, __m512 g2, __m512 (&t)[4]) {
  const __m512 half = _mm512_set1_ps(0.5f), outer = _mm512_mul_ps(half, _mm512_add_ps(g0, g2));
  t[0] = g0;
  t[1] = _mm512_fmadd_ps(half, g1, outer);
  t[2] = _mm512_fnmadd_ps(half, g1, outer);
  t[3] = g2;
}

// G g Gᵀ: tap (y, x) at g[3 y + x], point (i, j) at u[4 i + j].
static inline void transform_weight(const __m512 (&g)[9], __m512 (&u)[16]) {
  __m512 columns[3][4];
#pragma GCC unroll 3
  for (int x = 0; x < 3; ++x) weight_line(g[x], g[3 + x], g[6 + x], columns[x]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    __m512 t[4];
    weight_line(columns[0][i], columns[1][i], columns[2][i], t);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) u[4 * i + j] = t[j];
  }
}

// Aᵀ m A: point p at m[p · point]; pixel (y, x) at out[2 y + x].
static inline void transform_output(const float* m, int64_t point, __m512 (&out)[4]) {
  __m512 rows[2][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 m0 = simd512::load(m + j * point), m1 = simd512::load(m + (4 + j) * point),
                 m2 = simd512::load(m + (8 + j) * point), m3 = simd512::load(m + (12 + j) * point);
    rows[0][j] = _mm512_add_ps(m0, _mm512_add_ps(m1, m2));
    rows[1][j] = _mm512_sub_ps(_mm512_sub_ps(m1, m2), m3);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    out[2 * i] = _mm512_add_ps(rows[i][0], _mm512_add_ps(rows[i][1], rows[i][2]));
    out[2 * i + 1] = _mm512_sub_ps(_mm512_sub_ps(rows[i][1], rows[i][2]), rows[i][3]);
  }
}

}  // namespace darkroom::winograd2

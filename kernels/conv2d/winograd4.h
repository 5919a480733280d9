// The three transforms of Winograd's F(4×4, 3×3) on f32 lanes, one channel a lane: 36 multiplications in place of 144.
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
// Simd is what winograd4_on_simd.h asks of an instruction set.
#pragma once

#include <cstdint>

namespace darkroom::winograd4 {

template <typename Simd>
using Vector = typename Simd::Vector;

inline constexpr int64_t kTile = 4;     // pixels of the output, each way
inline constexpr int64_t kWindow = 6;   // pixels of the input, each way
inline constexpr int64_t kPoints = 36;  // products of a tile
inline constexpr int64_t kTaps = 9;

// t = Bᵀ d
template <typename Simd>
static inline void input_line(const Vector<Simd> (&d)[6], Vector<Simd> (&t)[6]) {
  const Vector<Simd> half = Simd::set(0.5f), three_halves = Simd::set(1.5f), two = Simd::set(2.0f);
  const Vector<Simd> d20 = d[2] - d[0], d31 = d[3] - d[1];
  const Vector<Simd> d42 = d[4] - d[2], d53 = d[5] - d[3];
  const Vector<Simd> even = Simd::fmadd(three_halves, d[3], d42), odd = Simd::fmadd(three_halves, d[2], d31);
  t[0] = Simd::fmadd(three_halves, d31, d42 - d20);
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = Simd::fmadd(two, d31, d42);
  t[4] = Simd::fnmadd(half, d31, d42);
  t[5] = Simd::fmadd(three_halves, d42, d53 - d31);
}

// t = G g
template <typename Simd>
static inline void weight_line(Vector<Simd> g0, Vector<Simd> g1, Vector<Simd> g2, Vector<Simd> (&t)[6]) {
  const Vector<Simd> third = Simd::set(1.0f / 3), fifteenth = Simd::set(1.0f / 15);
  const Vector<Simd> outer = third * (g0 + g2), inner = third * g1;
  t[0] = g0;
  t[1] = outer + inner;
  t[2] = inner - outer;
  // −16 g0 − 8 g1 − 4 g2 and g0 − 2 g1 + 4 g2, in fifteenths.
  const Vector<Simd> a = Simd::fmadd(Simd::set(2.0f), g1, g2), b = Simd::fnmadd(Simd::set(0.5f), g1, g2);
  t[3] = Simd::set(-4.0f / 15) * Simd::fmadd(Simd::set(4.0f), g0, a);
  t[4] = fifteenth * Simd::fmadd(Simd::set(4.0f), b, g0);
  t[5] = g2;
}

// y = Aᵀ m
template <typename Simd>
static inline void output_line(const Vector<Simd> (&m)[6], Vector<Simd> (&y)[4]) {
  const Vector<Simd> a = m[1] + m[2], b = m[1] - m[2];
  y[0] = (m[0] + a) + (m[3] + m[4]);
  y[1] = Simd::fmadd(Simd::set(0.5f), m[3], Simd::fnmadd(Simd::set(2.0f), m[4], b));
  y[2] = Simd::fmadd(Simd::set(0.25f), m[3], Simd::fmadd(Simd::set(4.0f), m[4], a));
  y[3] = Simd::fmadd(Simd::set(0.125f), m[3], Simd::fnmadd(Simd::set(8.0f), m[4], b + m[5]));
}

// Bᵀ d B for a vector of channels: pixel (y, x) at d[y · line + x · pixel], point (i, j) to v[(6 i + j) · point].
template <typename Simd>
static inline void transform_input(const float* d, int64_t line, int64_t pixel, float* v, int64_t point) {
  Vector<Simd> columns[6][6];
#pragma GCC unroll 6
  for (int x = 0; x < 6; ++x) {
    Vector<Simd> in[6], t[6];
#pragma GCC unroll 6
    for (int y = 0; y < 6; ++y) in[y] = Simd::load(d + y * line + x * pixel);
    input_line<Simd>(in, t);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) columns[i][x] = t[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    Vector<Simd> t[6];
    input_line<Simd>(columns[i], t);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) Simd::store(v + (6 * i + j) * point, t[j]);
  }
}

// G g Gᵀ for a vector of output channels: tap t at g + t · tap, in the stored type; point p to u[p · point].
template <typename Simd, typename W>
static inline void transform_weight(const W* g, int64_t tap, float* u, int64_t point) {
  Vector<Simd> columns[6][3];
#pragma GCC unroll 3
  for (int x = 0; x < 3; ++x) {
    Vector<Simd> t[6];
    weight_line<Simd>(Simd::load(g + x * tap), Simd::load(g + (3 + x) * tap), Simd::load(g + (6 + x) * tap), t);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) columns[i][x] = t[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < 6; ++i) {
    Vector<Simd> t[6];
    weight_line<Simd>(columns[i][0], columns[i][1], columns[i][2], t);
#pragma GCC unroll 6
    for (int j = 0; j < 6; ++j) Simd::store(u + (6 * i + j) * point, t[j]);
  }
}

// Aᵀ m A for a vector of output channels: point p at m[p · point]; pixel (y, x) to y[4 y + x].
template <typename Simd>
static inline void transform_output(const float* m, int64_t point, Vector<Simd> (&out)[16]) {
  Vector<Simd> rows[4][6];
#pragma GCC unroll 6
  for (int j = 0; j < 6; ++j) {
    Vector<Simd> in[6], y[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) in[i] = Simd::load(m + (6 * i + j) * point);
    output_line<Simd>(in, y);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) rows[i][j] = y[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    Vector<Simd> y[4];
    output_line<Simd>(rows[i], y);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) out[4 * i + j] = y[j];
  }
}

}  // namespace darkroom::winograd4

// What the AVX-512 cores of gemm_frame.h share: the 14 × 32 tile, its loop over K, its epilogue.
//
// One step of the loop takes 32 bits of each of 14 rows of A, broadcast, and 32 lanes of 32 bits of W: one product a lane in
// f32, two in bf16, four in int8. 28 accumulators, 2 registers for W, 1 for A; to 28 multiply-adds 16 loads, or 24 where 8 of the rows are
// broadcast by the multiplications themselves.
//
// For translation units compiled for AVX-512; see simd_avx512.h.
#pragma once

#include "kernels/core/gemm_frame.h"
#include "kernels/core/simd_avx512.h"
#ifdef __AVX512BF16__
#include "kernels/core/simd_avx512_bf16.h"
#endif

namespace darkroom::gemm_avx512 {

using namespace gemm_frame;

inline constexpr int64_t kMr = 14, kNr = 32;

// c [R, width] (row stride 32) = (accumulate ? c : 0) + a [R, k] (row stride kLda) · w [k / kGroup, width, kGroup], where
// the width is 32, or 16 with kVectors = 1.
// Math is what a core multiplies with: its Cell, Sum, kGroup and kLda, and
//   Vector                     16 lanes of Sum
//   zero()  add(x, y)
//   multiply_add(sums, a, w)   sums + Σ over the group of a · w, in each lane; a, w are 16 lanes of kGroup elements
//   broadcast(p)               the group at p in all lanes
//   multiply_add_from(sums, p, w)   multiply_add() of both in one instruction, if there is one
//   load_weights<W>(p)         16 lanes of weights, from the packed type W
template <int R, typename W, typename Math, int kVectors = 2>
static void micro_kernel(const typename Math::Cell* a, const void* w, int64_t k, typename Math::Sum* c,
                         bool accumulate) {
  using Vector = typename Math::Vector;
  constexpr int64_t kLanes = 16 * Math::kGroup;
  const W* b = static_cast<const W*>(w);
  Vector acc[R][kVectors];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kVectors; ++v) acc[r][v] = Math::zero();
#pragma GCC unroll 4
  for (int64_t i = 0; i < k; i += Math::kGroup) {
    decltype(Math::load_weights(b)) weights[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) weights[v] = Math::load_weights(b + v * kLanes);
    b += kVectors * kLanes;
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
      const typename Math::Cell* const at = a + r * Math::kLda;
      if constexpr (requires { Math::multiply_add_from(acc[0][0], at, weights[0]); })
        if (r < simd512::kRowsFromMemory) {
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) acc[r][v] = Math::multiply_add_from(acc[r][v], at, weights[v]);
          continue;
        }
      const auto ar = Math::broadcast(at);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) acc[r][v] = Math::multiply_add(acc[r][v], ar, weights[v]);
    }
    a += Math::kGroup;
  }
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      typename Math::Sum* to = c + r * kNr + v * 16;
      Math::store(to, accumulate ? Math::add(acc[r][v], Math::load(to)) : acc[r][v]);
    }
}

// By the number of rows, 1 to 14: the last tile of a block may be lower.
template <typename W, typename Math, int kVectors = 2>
static auto micro_kernel_of(int64_t rows) {
  static constexpr decltype(&micro_kernel<1, W, Math, kVectors>) kByRows[kMr] = {
      micro_kernel<1, W, Math, kVectors>,  micro_kernel<2, W, Math, kVectors>,  micro_kernel<3, W, Math, kVectors>,
      micro_kernel<4, W, Math, kVectors>,  micro_kernel<5, W, Math, kVectors>,  micro_kernel<6, W, Math, kVectors>,
      micro_kernel<7, W, Math, kVectors>,  micro_kernel<8, W, Math, kVectors>,  micro_kernel<9, W, Math, kVectors>,
      micro_kernel<10, W, Math, kVectors>, micro_kernel<11, W, Math, kVectors>, micro_kernel<12, W, Math, kVectors>,
      micro_kernel<13, W, Math, kVectors>, micro_kernel<14, W, Math, kVectors>};
  return kByRows[rows - 1];
}

// Two vectors of a row: in bf16 one cache line.
template <typename Out>
static void store_pair(Out* to, __m512 lower, __m512 upper) {
#ifdef __AVX512BF16__
  if constexpr (std::is_same_v<Out, bf16_t>) return simd512::store_both(to, lower, upper);
#endif
  simd512::store(to, lower);
  simd512::store(to + 16, upper);
}

// store_tile() for the most frequent case: a whole panel, no activation, nothing to decide row by row: with K = 128 a
// whole product takes 0.94 of the time that it takes by the general one.
template <typename Out, typename Core>
static void store_lines(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                        int64_t panel) {
  const int64_t n = panel * kNr;
  __m512 bias[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int v = 0; s.bias.present() && v < 2; ++v) bias[v] = simd512::load(s.bias.as<float>() + n + 16 * v);
  for (int64_t r = 0; r < rows; ++r, tile += kNr) {
    __m512 lower = _mm512_add_ps(simd512::load(tile), bias[0]);
    __m512 upper = _mm512_add_ps(simd512::load(tile + 16), bias[1]);
    if (s.row_bias.present()) {
      const float* row_bias = table.row_bias[row + r] + n;
      lower = _mm512_add_ps(lower, simd512::load(row_bias));
      upper = _mm512_add_ps(upper, simd512::load(row_bias + 16));
    }
    if (s.residual.present()) {
      const Out* residual = s.residual.as<Out>() + table.residual[row + r] + n;
      lower = _mm512_add_ps(lower, simd512::load(residual));
      upper = _mm512_add_ps(upper, simd512::load(residual + 16));
    }
    store_pair(s.out.as<Out>() + table.out[row + r] + n, lower, upper);
  }
}

// gelu(x), as exact as the output has use for.
template <typename Out>
static __m512 gate_of(__m512 x) {
#ifdef __AVX512BF16__
  if constexpr (std::is_same_v<Out, bf16_t>) return simd512::rough_gelu(x);
#endif
  return simd512::gelu(x);
}

// Rows [row, row + rows) of the block, channels of `panel`, from a tile [rows, 32] of f32.
template <typename Out, typename Core>
static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                       int64_t panel) {
  if (!s.geglu && s.activation == Activation::none && s.alpha == 1.0f && (panel + 1) * kNr <= s.out.shape[-1])
    return store_lines<Out>(s, table, tile, row, rows, panel);
  const int64_t channels = s.out.shape[-1];
  const int64_t width = s.geglu ? kNr / 2 : kNr;
  const float* bias = static_cast<const float*>(s.bias.data);
  const Out* residual = static_cast<const Out*>(s.residual.data);
  for (int64_t n = panel * width; n < smaller((panel + 1) * width, channels); n += 16, tile += 16) {
    const __mmask16 part = simd512::first(channels - n);
    __m512 b = _mm512_setzero_ps(), gate_b = b;
    if (s.bias.present()) {
      b = simd512::load(bias + n, part);
      if (s.geglu) gate_b = simd512::load(bias + channels + n, part);
    }
    for (int64_t r = 0; r < rows; ++r) {
      __m512 v = simd512::load(tile + r * kNr);
      if (s.alpha != 1.0f) v = _mm512_mul_ps(v, _mm512_set1_ps(s.alpha));
      v = _mm512_add_ps(v, b);
      const float* row_bias = s.row_bias.present() ? table.row_bias[row + r] : nullptr;
      if (row_bias) v = _mm512_add_ps(v, simd512::load(row_bias + n, part));
      if (s.geglu) {
        __m512 gate = _mm512_add_ps(simd512::load(tile + r * kNr + 16), gate_b);
        if (row_bias) gate = _mm512_add_ps(gate, simd512::load(row_bias + channels + n, part));
        v = _mm512_mul_ps(v, gate_of<Out>(gate));
      } else {
        v = simd512::activate(s.activation, v);
      }
      if (residual) v = _mm512_add_ps(v, simd512::load(residual + table.residual[row + r] + n, part));
      simd512::store(static_cast<Out*>(s.out.data) + table.out[row + r] + n, v, part);
    }
  }
}

}  // namespace darkroom::gemm_avx512

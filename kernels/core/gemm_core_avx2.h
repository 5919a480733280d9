// The GEMM core for AVX2 + FMA; gemm_frame.h has the loops around it.
//
//   weights   panels of 16 channels in the stored type (f32, f16, bf16), widened as they are loaded
//   blocks    KC <= 320: a panel block (20 KB in f32) and six rows of A (7.5 KB) share the 32 KB of L1.
//             MC <= 192, NC <= 384: A (250 KB) and the partial sums (290 KB) share L2.
//   registers 12 accumulators (6 × 16), 2 for W, 1 for A
//
// For translation units compiled with -mavx2 -mfma -mf16c; see simd_avx2.h for why everything here is static.
#pragma once

#include "kernels/core/gemm_frame.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::gemm_avx2 {

using namespace gemm_frame;

inline constexpr int64_t kMr = 6, kNr = 16;
inline constexpr int64_t kMaxKc = 320;
inline constexpr int64_t kLda = kMaxKc + 16;  // 21 cache lines, odd, spreads the sets

// --- prologue ---------------------------------------------------------------------------------------------------------

// n elements to f32.
static inline void widen(const float* from, float* to, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_loadu_ps(from + i));
  for (; i < n; ++i) to[i] = from[i];
}
static inline void widen(const bf16_t* from, float* to, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, simd::load(from + i));
  for (; i < n; ++i) to[i] = to_float(from[i]);
}

// --- micro-kernel -----------------------------------------------------------------------------------------------------

// c [R, 16] = (accumulate ? c : 0) + a [R, k] (row stride kLda) · w [k, 16]
template <int R, typename W>
static void micro_kernel(const float* a, const void* w, int64_t k, float* c, bool accumulate) {
  const W* b = static_cast<const W*>(w);
  __m256 acc[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
#pragma GCC unroll 4
  for (int64_t i = 0; i < k; ++i) {
    const __m256 b0 = simd::load(b), b1 = simd::load(b + 8);
    b += kNr;
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 ar = _mm256_broadcast_ss(a + r * kLda);
      acc[r][0] = _mm256_fmadd_ps(ar, b0, acc[r][0]);
      acc[r][1] = _mm256_fmadd_ps(ar, b1, acc[r][1]);
    }
    ++a;
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    float* row = c + r * kNr;
    if (accumulate) {
      acc[r][0] = _mm256_add_ps(acc[r][0], _mm256_loadu_ps(row));
      acc[r][1] = _mm256_add_ps(acc[r][1], _mm256_loadu_ps(row + 8));
    }
    _mm256_storeu_ps(row, acc[r][0]);
    _mm256_storeu_ps(row + 8, acc[r][1]);
  }
}

// By the number of rows, 1 to 6: the last tile of a block may be lower.
template <typename W>
static auto micro_kernel_of(int64_t rows) {
  switch (rows) {
    case 1:
      return micro_kernel<1, W>;
    case 2:
      return micro_kernel<2, W>;
    case 3:
      return micro_kernel<3, W>;
    case 4:
      return micro_kernel<4, W>;
    case 5:
      return micro_kernel<5, W>;
    default:
      return micro_kernel<6, W>;
  }
}

// --- epilogue ---------------------------------------------------------------------------------------------------------

// Reads and writes of 8 channels of which the first n exist.
template <typename T>
static inline __m256 load_part(const T* p, int64_t n) {
  return n >= 8 ? simd::load(p) : simd::load_n(p, int(n));
}
template <typename T>
static inline void store_part(T* p, __m256 v, int64_t n) {
  if (n >= 8)
    simd::store(p, v);
  else
    simd::store_n(p, v, int(n));
}

// Rows [row, row + rows) of the block, channels of `panel`, from a tile [rows, 16].
template <typename Out, typename Core>
static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                       int64_t panel) {
  const int64_t channels = s.out.shape[-1];
  const int64_t width = s.geglu ? kNr / 2 : kNr;
  const float* bias = static_cast<const float*>(s.bias.data);
  const Out* residual = static_cast<const Out*>(s.residual.data);
  for (int64_t n = panel * width; n < smaller((panel + 1) * width, channels); n += 8, tile += 8) {
    const int64_t part = channels - n;
    __m256 b = _mm256_setzero_ps(), gate_b = b;
    if (s.bias.present()) {
      b = load_part(bias + n, part);
      if (s.geglu) gate_b = load_part(bias + channels + n, part);
    }
    for (int64_t r = 0; r < rows; ++r) {
      __m256 v = simd::load(tile + r * kNr);
      if (s.alpha != 1.0f) v = _mm256_mul_ps(v, _mm256_set1_ps(s.alpha));
      v = _mm256_add_ps(v, b);
      const float* row_bias = s.row_bias.present() ? table.row_bias[row + r] : nullptr;
      if (row_bias) v = _mm256_add_ps(v, load_part(row_bias + n, part));
      if (s.geglu) {
        __m256 gate = _mm256_add_ps(simd::load(tile + r * kNr + 8), gate_b);
        if (row_bias) gate = _mm256_add_ps(gate, load_part(row_bias + channels + n, part));
        v = _mm256_mul_ps(v, simd::gelu(gate));
      } else {
        v = simd::activate(s.activation, v);
      }
      if (residual) v = _mm256_add_ps(v, load_part(residual + table.residual[row + r] + n, part));
      store_part(static_cast<Out*>(s.out.data) + table.out[row + r] + n, v, part);
    }
  }
}

namespace {  // a type of its own for each unit: its functions must not meet those of a unit compiled otherwise

struct Core {
  using Cell = float;
  using Sum = float;
  static constexpr int64_t kMr = gemm_avx2::kMr, kNr = gemm_avx2::kNr, kGroup = 1, kUnit = kGroup;
  static constexpr int64_t kMaxKc = gemm_avx2::kMaxKc, kLda = gemm_avx2::kLda;
  static constexpr int64_t kMaxMc = 192;       // 32 tiles
  static constexpr int64_t kMaxNcPanels = 24;  // 384 channels
  static constexpr int64_t kHeldRows = kMaxMc, kAbreast = 1, kAbreastOfSums = 1;
  static constexpr bool kReadsRows = false;
  static constexpr double kCycles = 1;  // two fused multiply-adds, two a cycle

  static DType packed_type(DType stored) { return stored; }
  static MicroKernel<Core> micro_kernel(DType packed, int64_t rows, bool) {
    if (packed == DType::bf16) return micro_kernel_of<bf16_t>(rows);
    if (packed == DType::f16) return micro_kernel_of<f16_t>(rows);
    return micro_kernel_of<float>(rows);
  }
  template <typename T>
  static void copy(const T* from, int64_t n, float* to) {
    widen(from, to, n);
  }
  template <typename Out>
  static void store_tile(const Store& s, const RowTable<Core>& table, const float* tile, int64_t row, int64_t rows,
                         int64_t panel) {
    gemm_avx2::store_tile<Out>(s, table, tile, row, rows, panel);
  }
};

}  // namespace
}  // namespace darkroom::gemm_avx2

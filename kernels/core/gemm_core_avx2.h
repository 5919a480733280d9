// The CPU's GEMM core for AVX2 + FMA, shared by gemm, matmul and conv2d: prologue → micro-kernel → epilogue.
//
//   out[m, n] = epilogue( Σ_k A[m, k] · W[n, k] )
//
// The method is that of Goto and van de Geijn (Anatomy of High-Performance Matrix Multiplication, 2008), with one change:
// A is not transposed while it is packed. The prologue copies (gathers, widens to f32) a block of A, MC rows × KC, row by
// row into scratch that stays in L2; the micro-kernel broadcasts from six of its rows. A row-wise copy runs at the speed
// of memcpy, so that packing costs 1-3 % even where N is only 128, and a convolution needs no im2col buffer.
//
//   weights   panels of 16 output channels, [panel][K][16], in the stored type (f32, f16, bf16), widened as they are
//             loaded. With GEGLU a panel holds 8 value channels and their 8 gates, so that both halves meet in one tile.
//   blocks    KC <= 320: a panel block (20 KB in f32) and six rows of A (7.5 KB) share the 32 KB of L1.
//             MC <= 192, NC <= 384: A (250 KB) and the partial sums (290 KB) share L2.
//   registers 12 accumulators (6 × 16), 2 for W, 1 for A.
//   threads   a grid over rows × panels, chosen by split().
//
// An output element is the sum over blocks of KC, in order, of sums of KC products, in order. KC follows from K alone:
// the bits of the result depend neither on the number of threads nor on what else is in the batch.
//
// For translation units compiled with -mavx2 -mfma -mf16c; see simd_avx2.h for why everything here is static.
#pragma once

#include "kernels/core/kernel.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::gemm_avx2 {

inline constexpr int64_t kMr = 6, kNr = 16;  // one tile of the micro-kernel
inline constexpr int64_t kMaxKc = 320;
inline constexpr int64_t kMaxMc = 192;        // 32 tiles
inline constexpr int64_t kMaxNcPanels = 24;   // 384 channels
inline constexpr int64_t kLda = kMaxKc + 16;  // row stride of the packed A block: 21 cache lines, odd, spreads the sets

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// n cut into the fewest equal pieces of at most `limit`, each a multiple of `unit`.
static inline int64_t even_block(int64_t n, int64_t limit, int64_t unit) {
  return n <= 0 ? unit : round_up(ceil_div(n, ceil_div(n, limit)), unit);
}
static inline int64_t kc_of(int64_t k) { return even_block(k, kMaxKc, 8); }

// --- weights ----------------------------------------------------------------------------------------------------------

// Output channels are padded with zeros to whole panels.
static inline int64_t panels_of(int64_t channels, bool geglu) {
  return geglu ? ceil_div(channels / 2, kNr / 2) : ceil_div(channels, kNr);
}
static inline size_t packed_bytes(int64_t channels, int64_t k, bool geglu, DType type) {
  return size_t(panels_of(channels, geglu) * k * kNr) * dtype_size(type);
}

// Which output channel lane `lane` of a panel holds; -1 where it is padding.
static inline int64_t channel_of(int64_t panel, int64_t lane, int64_t channels, bool geglu) {
  if (!geglu) {
    const int64_t n = panel * kNr + lane;
    return n < channels ? n : -1;
  }
  const int64_t n = panel * (kNr / 2) + lane % (kNr / 2);
  if (n >= channels / 2) return -1;
  return lane < kNr / 2 ? n : n + channels / 2;
}

// Any stored element in any weight type; the same type on both sides keeps the bits.
static inline void convert_element(const void* from, DType from_type, int64_t i, void* to, DType to_type, int64_t j) {
  if (from_type == to_type) {
    const size_t size = dtype_size(to_type);
    memcpy(static_cast<char*>(to) + size_t(j) * size, static_cast<const char*>(from) + size_t(i) * size, size);
    return;
  }
  float x = 0;
  if (from_type == DType::f32) x = static_cast<const float*>(from)[i];
  if (from_type == DType::f16) x = to_float(static_cast<const f16_t*>(from)[i]);
  if (from_type == DType::bf16) x = to_float(static_cast<const bf16_t*>(from)[i]);
  if (to_type == DType::f32) static_cast<float*>(to)[j] = x;
  if (to_type == DType::f16) static_cast<f16_t*>(to)[j] = to_f16(x);
  if (to_type == DType::bf16) static_cast<bf16_t*>(to)[j] = to_bf16(x);
}

// Packs `parts`, dense tensors of `inner` inputs × `taps` (1 for linear layers; KH·KW for O I KH KW kernels), stacked along
// the output channels. K runs over (tap, input). Rows of parts that lie beyond `channels` are not read.
static inline void pack_panels(std::span<const TensorView> parts, int64_t channels, int64_t inner, int64_t taps,
                               bool geglu, DType type, void* packed, const Team& team) {
  const int64_t k = inner * taps;
  const int64_t panels = panels_of(channels, geglu);
  for (int64_t panel = panels * team.index / team.count; panel < panels * (team.index + 1) / team.count; ++panel) {
    char* block = static_cast<char*>(packed) + size_t(panel * k * kNr) * dtype_size(type);
    memset(block, 0, size_t(k * kNr) * dtype_size(type));
    for (int64_t lane = 0; lane < kNr; ++lane) {
      int64_t n = channel_of(panel, lane, channels, geglu);
      if (n < 0) continue;
      size_t part = 0;
      while (part < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
      if (part == parts.size()) continue;
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t c = 0; c < inner; ++c)
          convert_element(parts[part].data, parts[part].dtype, (n * inner + c) * taps + tap, block, type,
                          (tap * inner + c) * kNr + lane);
    }
  }
  team.sync();
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

using MicroKernel = void (*)(const float* a, const void* w, int64_t k, float* c, bool accumulate);

// By the number of rows, 1 to 6: the last tile of a block may be lower.
template <typename W>
static inline MicroKernel micro_kernel_of(int64_t rows) {
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
static inline MicroKernel micro_kernel_of(DType weight, int64_t rows) {
  if (weight == DType::bf16) return micro_kernel_of<bf16_t>(rows);
  if (weight == DType::f16) return micro_kernel_of<f16_t>(rows);
  return micro_kernel_of<float>(rows);
}

// --- epilogue ---------------------------------------------------------------------------------------------------------

// Element offset of row r of channels of any view.
static inline int64_t row_offset(const TensorView& v, int64_t r) {
  int64_t offset = 0;
  for (int i = v.shape.rank() - 2; i >= 0; --i) {
    const int64_t d = v.shape[i];
    offset += (r % d) * v.stride[size_t(i)];
    r /= d;
  }
  return offset;
}
// Offsets of rows [first, first + count). Uniform rows, the common case, need no divisions.
static inline void row_offsets(const TensorView& v, int64_t first, int64_t count, int64_t* offset) {
  if (v.rows_uniform()) {
    const int64_t step = v.row_stride();
    for (int64_t i = 0; i < count; ++i) offset[i] = (first + i) * step;
  } else {
    for (int64_t i = 0; i < count; ++i) offset[i] = row_offset(v, first + i);
  }
}

// Where the rows of the block at hand go, and what is added to them.
struct RowTable {
  int64_t out[kMaxMc];
  int64_t residual[kMaxMc];
  const float* row_bias[kMaxMc];
};

struct Store {
  TensorView out, bias, row_bias, residual;  // any but out may be absent
  int64_t rows_per_sample = 1;               // rows that share one row of row_bias
  Activation activation = Activation::none;
  bool geglu = false;
  float alpha = 1.0f;  // scales the sum first of all (matmul)
};

static inline void fill_row_table(const Store& s, int64_t first, int64_t count, RowTable& table) {
  row_offsets(s.out, first, count, table.out);
  if (s.residual.present()) row_offsets(s.residual, first, count, table.residual);
  if (s.row_bias.present()) {
    int64_t sample = first / s.rows_per_sample, next = (sample + 1) * s.rows_per_sample;
    for (int64_t i = 0; i < count; ++i) {
      if (first + i == next) ++sample, next += s.rows_per_sample;
      table.row_bias[i] = static_cast<const float*>(s.row_bias.data) + sample * s.row_bias.stride[0];
    }
  }
}

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
template <typename Out>
static void store_tile(const Store& s, const RowTable& table, const float* tile, int64_t row, int64_t rows,
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

// Prologue of gemm and matmul: rows of a matrix.
struct MatrixRows {
  TensorView a;
  int64_t rows;
  int64_t offset[kMaxMc];
};
static inline void begin(MatrixRows& p, int64_t first, int64_t rows) {
  p.rows = rows;
  row_offsets(p.a, first, rows, p.offset);
}
static inline void gather(const MatrixRows& p, int64_t k_begin, int64_t k_end, float* block) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const int64_t from = p.offset[r] + k_begin;
    if (p.a.dtype == DType::bf16)
      widen(static_cast<const bf16_t*>(p.a.data) + from, block + r * kLda, k_end - k_begin);
    else
      widen(static_cast<const float*>(p.a.data) + from, block + r * kLda, k_end - k_begin);
  }
}

// --- the loops around -------------------------------------------------------------------------------------------------

struct Product {
  int64_t m = 0, k = 0;
  int64_t panels = 0;
  const void* weight = nullptr;  // as pack_panels() wrote it
  DType weight_type = DType::f32;
};

// A grid of rows × panels of members; this member's rectangle.
struct Rectangle {
  int64_t row_begin, row_end, panel_begin, panel_end;
};

// Takes the grid with the least estimated time for its largest rectangle, in cycles: arithmetic (one row of one panel
// costs a cycle per k), copying A, and the part of reading the weights that arithmetic does not hide. Rows are split first
// where there are many of them; the deep layers (few pixels, thousands of channels) split the channels, so that each
// weight is read from memory once.
static inline Rectangle split(const Product& p, const Team& team) {
  const int64_t tiles = ceil_div(p.m, kMr);
  int64_t best_rows = 1;
  double best_cost = 0;
  for (int64_t by_rows = 1; by_rows <= team.count; ++by_rows) {
    if (team.count % by_rows != 0) continue;
    const int64_t by_panels = team.count / by_rows;
    const double rows = double(ceil_div(tiles, by_rows) * kMr), panels = double(ceil_div(p.panels, by_panels));
    const double reads =
        double(ceil_div(int64_t(rows), kMaxMc)) * panels * double(kNr * int64_t(dtype_size(p.weight_type)));
    const double cost = rows * panels + 0.3 * rows + 0.1 * reads;
    if (by_rows == 1 || cost < best_cost) best_cost = cost, best_rows = by_rows;
  }
  const int64_t by_panels = team.count / best_rows;
  const int64_t i = team.index / by_panels, j = team.index % by_panels;
  return {smaller(p.m, tiles * i / best_rows * kMr), smaller(p.m, tiles * (i + 1) / best_rows * kMr),
          p.panels * j / by_panels, p.panels * (j + 1) / by_panels};
}

// Work memory of one member: the block of A, and the partial sums where K takes more than one block.
static inline size_t scratch_bytes_per_member(int64_t k) {
  const int64_t sums = k > kMaxKc ? kMaxMc * kMaxNcPanels * kNr : 0;
  return size_t(kMaxMc * kLda + sums) * sizeof(float);
}

// A prologue is a struct with two functions: begin(prologue, first row, rows) when a block of rows starts, then
// gather(prologue, k_begin, k_end, block), which writes those columns of these rows as f32, row stride kLda.
template <typename Prologue>
static inline void run(const Product& p, const Store& store, Prologue& prologue, void* scratch, const Team& team) {
  const Rectangle mine = split(p, team);
  const int64_t rows = mine.row_end - mine.row_begin, panels = mine.panel_end - mine.panel_begin;
  if (rows <= 0 || panels <= 0) return;

  const int64_t kc = kc_of(p.k), mc = even_block(rows, kMaxMc, kMr);
  const bool one_block = p.k <= kMaxKc;
  const int64_t nc = one_block ? panels : even_block(panels, kMaxNcPanels, 1);
  float* a = reinterpret_cast<float*>(static_cast<char*>(scratch) + size_t(team.index) * scratch_bytes_per_member(p.k));
  float* sums = a + kMaxMc * kLda;
  const size_t panel_bytes = size_t(p.k * kNr) * dtype_size(p.weight_type);
  const size_t k_bytes = size_t(kNr) * dtype_size(p.weight_type);
  const MicroKernel full = micro_kernel_of(p.weight_type, kMr);
  const auto store_fn = store.out.dtype == DType::bf16 ? store_tile<bf16_t> : store_tile<float>;

  RowTable table;
  for (int64_t m = mine.row_begin; m < mine.row_end; m += mc) {
    const int64_t block_rows = smaller(mc, mine.row_end - m), tiles = ceil_div(block_rows, kMr);
    const MicroKernel last = micro_kernel_of(p.weight_type, block_rows - (tiles - 1) * kMr);
    fill_row_table(store, m, block_rows, table);
    begin(prologue, m, block_rows);
    for (int64_t n = mine.panel_begin; n < mine.panel_end; n += nc) {
      const int64_t n_end = smaller(n + nc, mine.panel_end);
      for (int64_t k = 0; k < p.k; k += kc) {
        const int64_t k_end = smaller(k + kc, p.k);
        gather(prologue, k, k_end, a);
        for (int64_t panel = n; panel < n_end; ++panel) {
          const char* w = static_cast<const char*>(p.weight) + size_t(panel) * panel_bytes + size_t(k) * k_bytes;
          for (int64_t t = 0; t < tiles; ++t) {
            alignas(32) float one_tile[kMr * kNr];
            float* tile = one_block ? one_tile : sums + ((panel - n) * tiles + t) * kMr * kNr;
            (t + 1 < tiles ? full : last)(a + t * kMr * kLda, w, k_end - k, tile, k > 0);
            if (k_end == p.k) store_fn(store, table, tile, t * kMr, smaller(kMr, block_rows - t * kMr), panel);
          }
        }
      }
    }
  }
}

}  // namespace darkroom::gemm_avx2

// Flash attention with products of bf16, for a tile's arithmetic: avx512_bf16_flash.cpp, amx_bf16_flash.cpp. No more of the
// N×M matrix exists at a time than a tile's rows × 256 keys.
//
//   for each work item (batch, head, block of queries), none depending on another:
//     Q block → scratch, rows of bf16
//     for each tile of keys:            pack K in pairs along D, [32 keys at a time][D/2][32][2],
//                                       V in pairs along the keys, [32 columns at a time][keys/2][32][2]
//       for each kMr queries:           S = Q Kᵀ                       a tile of kMr × 32, f32
//                                       P = exp2((S − max) · factor)   factor = scale · log2(e); rounded to bf16
//                                       O = O · correction + P V       the same tile
//     out = O / sum
//
// Q and K enter as they are stored: the products of bf16 are exact, so S has the error of an f32 sum. P is rounded to bf16
// once, relative 2^-9; sums of P are taken before that. Packed tiles (256 KB) and the block's Q and O share L2.
// A query's result depends on the tiles of keys only: the block of queries may follow the size of the team.
//
// What a Tile brings:
//
//   kMr                  queries of a tile
//   kUnit                products are sums over multiples of this: D and keys are padded with zeros
//   kColumns             columns of O come in multiples of this, 16 or 32
//   kQueryRow, kWeightRow  elements from one row of Q, of P to the next
//   max_block(columns)   queries of a work item at most, a multiple of kMr
//   scores(rows)         c [rows, 32] (row stride 32) = (accumulate ? c : 0) + a [rows, k] · w [k / 2, 32, 2], rows of a
//                        kQueryRow apart
//   sums(rows, width)    the same with rows of a kWeightRow apart, and a width of 16 or 32
//
// Source: Dao, FlashAttention-2 (2023), for the order of the loops and the running maximum.
#pragma once

#include <type_traits>

#include "kernels/core/gemm_frame.h"
#include "kernels/core/reject.h"
#include "kernels/core/simd_avx512_bf16.h"

namespace darkroom::kernels::bf16_flash {

using namespace gemm_frame;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

constexpr int64_t kMaxKeys = 256;  // keys of a tile at most
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kPackedTile = 128 << 10;  // elements of packed K and V: a quarter of a MiB
constexpr float kLowest = -1.0e30f;  // the running maximum before the first key: finite, so that −∞ − max is −∞

constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct Tiling {
  int64_t D;        // head dim
  int64_t depth;    // D rounded up to whole units: what S sums over
  int64_t columns;  // D rounded up to whole kColumns: columns of V
  int64_t panels;   // of 32 columns of O, the last of which may be half used
  int64_t keys;     // of a tile, a multiple of 32
  int64_t block;    // queries of a work item
  int64_t blocks;   // work items of one head
};

template <typename Tile>
Tiling tiling(const KernelCall& call, int team) {
  const TensorView& q = call.in[AttentionAttrs::kQ];
  const int64_t B = q.shape[0], N = q.shape[1], M = call.in[AttentionAttrs::kK].shape[1];
  const int64_t NH = call.attributes<AttentionAttrs>().heads;
  Tiling t;
  t.D = q.channels() / NH;
  t.depth = round_up(t.D, Tile::kUnit);
  t.columns = round_up(t.D, Tile::kColumns);
  t.panels = ceil_div(t.columns, 32);
  t.keys = smaller(larger(kPackedTile / (2 * t.columns) / 32 * 32, 32), kMaxKeys);
  t.keys = smaller(t.keys, round_up(M, 32));
  // Enough work items to keep the team busy, of even size.
  const int64_t wanted = ceil_div(4 * team, B * NH);
  constexpr int64_t kMr = Tile::kMr;
  t.block = smaller(Tile::max_block(t.columns), larger(round_up(ceil_div(N, wanted), kMr), round_up(56, kMr)));
  t.blocks = ceil_div(N, t.block);
  t.block = round_up(ceil_div(N, t.blocks), kMr);
  t.blocks = ceil_div(N, t.block);
  return t;
}

// One member's work memory, each part on cache lines of its own.
template <typename Tile>
struct Scratch {
  bf16_t* q;      // [block][kQueryRow]
  bf16_t *k, *v;  // packed
  bf16_t* p;      // [kMr][kWeightRow]
  float* s;       // [keys / 32][kMr][32]
  float* o;       // [block / kMr][panels][kMr][32]
  float *max, *sum, *correction;

  // Lays the parts out from `base`; with a null base only the bytes count.
  static int64_t layout(const Tiling& t, char* base, Scratch* out) {
    int64_t size = 0;
    const auto place = [&](auto*& part, int64_t elements) {
      using T = std::remove_reference_t<decltype(*part)>;
      part = base ? reinterpret_cast<T*>(base + size) : nullptr;
      size += round_up(elements * int64_t(sizeof(T)), 64);
    };
    place(out->q, t.block * Tile::kQueryRow);
    place(out->k, t.keys * t.depth);
    place(out->v, t.keys * t.columns);
    place(out->p, Tile::kMr * Tile::kWeightRow);
    place(out->s, t.keys * Tile::kMr);
    place(out->o, t.block * t.panels * 32);
    place(out->max, t.block);
    place(out->sum, t.block);
    place(out->correction, Tile::kMr);
    return size;
  }
};

// 2^x for x <= 0 (or a rounding above); zero below -126, where a denormal would cost 200 cycles; NaN stays NaN.
static inline __m512 exp2_nonpositive(__m512 x) {
  return simd512::rough_exp2(_mm512_cmp_ps_mask(x, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ), x);
}

static inline __mmask32 first_of_32(int64_t n) { return n >= 32 ? ~__mmask32(0) : (__mmask32(1) << larger(n, 0)) - 1; }

// K transposed in pairs, 32 keys side by side: out[panel][d / 2][32][2]. Keys from `keys` to the end of the last panel are
// zero, and so is what lies beyond D.
void pack_keys(const Tiling& t, const bf16_t* k, int64_t k_stride, int64_t keys, bf16_t* out) {
  const int64_t pairs = t.depth / 2;
  for (int64_t panel = 0; panel < keys; panel += 32, out += pairs * 64)
    for (int64_t half = 0; half < 32; half += 16) {
      const int64_t first = panel + half, n = smaller(larger(keys - first, 0), 16);
      for (int64_t pair = 0; pair < pairs; pair += 16) {
        const __mmask32 mask = first_of_32(t.D - 2 * pair);
        __m512i r[16];
        for (int64_t i = 0; i < 16; ++i)
          r[i] = i < n ? _mm512_maskz_loadu_epi16(mask, k + (first + i) * k_stride + 2 * pair) : _mm512_setzero_si512();
        simd512::transpose(r);
        for (int64_t i = 0; i < smaller(pairs - pair, 16); ++i)
          _mm512_storeu_si512(out + ((pair + i) * 32 + half) * 2, r[i]);
      }
    }
}

// V in pairs along the keys, in panels of 32 columns, the last of 16 where that is enough: out[panel][key / 2][width][2].
// Columns beyond D and keys from `keys` to the end of the last unit are zero.
template <typename Tile>
void pack_values(const Tiling& t, const bf16_t* v, int64_t v_stride, int64_t keys, bf16_t* out) {
  const auto read = [&](int64_t key, int64_t d) {
    if (key >= keys) return _mm512_setzero_si512();
    const __mmask16 mask = simd512::first(larger(t.D - d, 0));
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, v + key * v_stride + d));
  };
  for (int64_t d = 0; d < t.columns; d += 32)
    for (int64_t key = 0; key < round_up(keys, Tile::kUnit); key += 2)
      for (int64_t c = d; c < smaller(d + 32, t.columns); c += 16, out += 32)
        _mm512_storeu_si512(out, _mm512_or_si512(read(key, c), _mm512_slli_epi32(read(key + 1, c), 16)));
}

// kRows rows of S, in panels of 32 keys kMr · 32 apart, become P in bf16. Updates each row's maximum and sum, and gives what its earlier
// sum and output must be scaled by. Rows side by side, for one alone waits for its maximum and its sum half of the time.
template <typename Tile, int kRows>
static inline void softmax_rows(const float* s, int64_t columns, float factor, bf16_t* p, float* max, float* sum,
                                float* correction) {
  constexpr int64_t kPanel = Tile::kMr * 32;
  const int64_t panels = ceil_div(columns, 32);
  __m512 m[kRows][2], sums[kRows][2], offset[kRows];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) m[r][0] = m[r][1] = _mm512_set1_ps(max[r]);
  for (int64_t i = 0; i < panels; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) m[r][h] = _mm512_max_ps(m[r][h], simd512::load(s + i * kPanel + r * 32 + h * 16));
  const __m512 f = _mm512_set1_ps(factor);
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    const float new_max = simd512::max(_mm512_max_ps(m[r][0], m[r][1]));
    correction[r] = _mm512_cvtss_f32(exp2_nonpositive(_mm512_set1_ps((max[r] - new_max) * factor)));
    max[r] = new_max;
    offset[r] = _mm512_set1_ps(-new_max * factor);
    sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  }
  for (int64_t i = 0; i < panels; ++i)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      __m512 e[2];
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        e[h] = exp2_nonpositive(_mm512_fmadd_ps(simd512::load(s + i * kPanel + r * 32 + h * 16), f, offset[r]));
        sums[r][h] = _mm512_add_ps(sums[r][h], e[h]);
      }
      _mm512_storeu_si512(p + r * Tile::kWeightRow + i * 32, (__m512i)_mm512_cvtne2ps_pbh(e[1], e[0]));
    }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) sum[r] = sum[r] * correction[r] + simd512::sum(_mm512_add_ps(sums[r][0], sums[r][1]));
}

// Takes up to kMr queries, group `group` of the block, through one packed tile of keys.
// causal: the first of them sees `first_visible` keys of the tile (0 or less: none), each next one a key more.
template <typename Tile>
void process(const Tiling& t, const Scratch<Tile>& w, int64_t group, int64_t rows, int64_t keys, int64_t first_visible,
             const AttentionAttrs& attrs) {
  constexpr int64_t kMr = Tile::kMr;
  const int64_t used = attrs.causal ? smaller(keys, first_visible + rows - 1) : keys;  // that any of the rows sees
  const int64_t columns = round_up(used, 32);
  const float factor = attrs.scale * 1.44269504f;
  const auto scores = Tile::scores(rows);
  for (int64_t j = 0; j < used; j += 32)
    scores(w.q + group * kMr * Tile::kQueryRow, w.k + j * t.depth, t.depth, w.s + j * kMr, false);

  if (attrs.causal)
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t seen = larger(smaller(first_visible + r, used), 0);
      for (int64_t j = seen; j < columns; ++j) w.s[j / 32 * kMr * 32 + r * 32 + j % 32] = -__builtin_inff();
    }
  else
    for (int64_t j = used; j < columns; ++j)
      for (int64_t r = 0; r < rows; ++r) w.s[j / 32 * kMr * 32 + r * 32 + j % 32] = -__builtin_inff();
  constexpr int kTogether = 4;
  const auto softmax = [&](auto together, int64_t r) {
    softmax_rows<Tile, together>(w.s + r * 32, columns, factor, w.p + r * Tile::kWeightRow, w.max + group * kMr + r,
                                 w.sum + group * kMr + r, w.correction + r);
  };
  int64_t r = 0;
  for (; r + kTogether <= rows; r += kTogether) softmax(std::integral_constant<int, kTogether>(), r);
  for (; r < rows; ++r) softmax(std::integral_constant<int, 1>(), r);

  const bf16_t* v = w.v;
  for (int64_t panel = 0; panel < t.panels; ++panel) {
    const int64_t width = smaller(32, t.columns - panel * 32);
    float* o = w.o + (group * t.panels + panel) * kMr * 32;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < width; c += 16)
        simd512::store(o + r * 32 + c, _mm512_mul_ps(simd512::load(o + r * 32 + c), _mm512_set1_ps(w.correction[r])));
    Tile::sums(rows, width)(w.p, v, round_up(used, Tile::kUnit), o, true);
    v += round_up(keys, Tile::kUnit) * width;
  }
}

const char* reject(const KernelCall& call) {
  const auto& attrs = call.attributes<AttentionAttrs>();
  for (int slot : {AttentionAttrs::kQ, AttentionAttrs::kK, AttentionAttrs::kV})
    if (call.in[slot].dtype != DType::bf16) return "q, k, v and out must be bf16";
  if (call.out.dtype != DType::bf16) return "q, k, v and out must be bf16";
  if (call.in[AttentionAttrs::kQ].channels() / attrs.heads > kMaxHeadDim) return "the head dim must be 512 at most";
  if (!(attrs.scale > 0)) return "the scale must be positive";
  return nullptr;
}

template <typename Tile>
size_t scratch_bytes(const KernelCall& call, int team) {
  Scratch<Tile> unused;
  return size_t(Scratch<Tile>::layout(tiling<Tile>(call, team), nullptr, &unused)) * size_t(team);
}

template <typename Tile>
void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<AttentionAttrs>();
  const TensorView &q = call.in[AttentionAttrs::kQ], &k = call.in[AttentionAttrs::kK], &v = call.in[AttentionAttrs::kV],
                   &out = call.out;
  const int64_t B = q.shape[0], N = q.shape[1], M = k.shape[1], NH = attrs.heads;
  constexpr int64_t kMr = Tile::kMr;
  const Tiling t = tiling<Tile>(call, team.count);
  Scratch<Tile> w;
  const int64_t bytes = Scratch<Tile>::layout(t, nullptr, &w);
  Scratch<Tile>::layout(t, static_cast<char*>(call.scratch) + team.index * bytes, &w);

  Items items(team, B * NH * t.blocks);
  for (int64_t item; (item = items.take()) < B * NH * t.blocks;) {
    const int64_t b = item / (NH * t.blocks), h = item / t.blocks % NH, begin = item % t.blocks * t.block;
    const int64_t rows = smaller(t.block, N - begin), groups = ceil_div(rows, kMr);
    const bf16_t* q_block = q.as<bf16_t>() + b * q.stride[0] + begin * q.stride[1] + h * t.D;
    const bf16_t* k_head = k.as<bf16_t>() + b * k.stride[0] + h * t.D;
    const bf16_t* v_head = v.as<bf16_t>() + b * v.stride[0] + h * t.D;
    for (int64_t r = 0; r < rows; ++r) {
      bf16_t* row = w.q + r * Tile::kQueryRow;
      memcpy(row, q_block + r * q.stride[1], size_t(t.D) * sizeof(bf16_t));
      memset(row + t.D, 0, size_t(t.depth - t.D) * sizeof(bf16_t));
      w.max[r] = kLowest;
      w.sum[r] = 0.0f;
    }
    memset(w.o, 0, size_t(groups * t.panels * kMr * 32) * sizeof(float));

    const int64_t seen = attrs.causal ? smaller(M, begin + rows) : M;  // keys that any query of the block sees
    for (int64_t j = 0; j < seen; j += t.keys) {
      const int64_t keys = smaller(t.keys, M - j);
      pack_keys(t, k_head + j * k.stride[1], k.stride[1], keys, w.k);
      pack_values<Tile>(t, v_head + j * v.stride[1], v.stride[1], keys, w.v);
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t group_rows = smaller(kMr, rows - group * kMr);
        const int64_t first_visible = begin + group * kMr - j + 1;  // keys of the tile that the first query sees
        if (attrs.causal && first_visible + group_rows - 1 <= 0) continue;
        process<Tile>(t, w, group, group_rows, keys, first_visible, attrs);
      }
    }

    for (int64_t r = 0; r < rows; ++r) {
      bf16_t* row = out.as<bf16_t>() + b * out.stride[0] + (begin + r) * out.stride[1] + h * t.D;
      const __m512 inverse = _mm512_set1_ps(1.0f / w.sum[r]);
      const float* o = w.o + (r / kMr * t.panels * kMr + r % kMr) * 32;
      for (int64_t d = 0; d < t.D; d += 16)
        simd512::store(row + d, _mm512_mul_ps(simd512::load(o + d / 32 * kMr * 32 + d % 32), inverse),
                       simd512::first(t.D - d));
    }
  }
}

}  // namespace
}  // namespace darkroom::kernels::bf16_flash

// Flash attention in f32 on any instruction set, kQueries queries side by side in two vectors: no more of the N×M matrix exists
// at a time than 128 keys × kQueries.
//
//   for each work item (batch, head, block of queries), none depending on another:
//     Qᵀ [kQueries at a time][D][kQueries] → scratch, in f32, times scale · log2(e): the softmax then needs exp2 alone
//     for each tile of keys:                    K, V [keys][D] where they lie, or → scratch, in f32
//       for each kQueries queries:              Sᵀ = K Qᵀ             kMaxRows keys or one less × kQueries: 2 · kMaxRows FMA
//                                                                     to kMaxRows + 2 loads
//                                               Pᵀ = exp2(Sᵀ − max)   running maximum and sum, a lane for each query
//                                               Oᵀ = Oᵀ · correction + Vᵀ Pᵀ    as many of D × kQueries
//     out = (Oᵀ / sum)ᵀ
//
// With queries in the lanes nothing is ever summed across a vector, and K and V are broadcast element by element: they need no
// packing, whatever D is. On AVX2, by whole tiles, 16 · D cycles go to products for each key and 16 queries, and at 4.5 cycles a
// vector 9 to exponentials: 90 % of the peak at D = 40, more above. K and V stream from L2 at 4 bytes a cycle; Pᵀ (8 KB), and for
// small D Qᵀ and Oᵀ too, stay in L1.
//
// Same bits: a query's result depends on the tiles of keys, which follow from D and M; the block of queries may follow the team.
//
// Simd is what an instruction set brings: Lanes of simd_avx2.h, simd_avx512.h, and
// kMaxRows, the keys, or columns of V, of a register tile.
#pragma once

#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/core/exp2_on_simd.h"
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels::flash {

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

template <typename Simd>
constexpr int64_t kQueries = 2 * Simd::kLanes;  // side by side
constexpr int64_t kMaxKeys = 128;               // of a tile
constexpr int64_t kMaxBlock = 256;              // queries of a work item
constexpr int64_t kKeyTile = 64 << 10;          // floats of K and V of a tile
constexpr int64_t kQueryTile = 48 << 10;        // floats of Qᵀ and Oᵀ of a work item
constexpr float kLowest = -3.0e38f;  // the running maximum before the first key: finite, so that −∞ − max is −∞

constexpr int64_t ceil_div(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
constexpr int64_t round_up(int64_t n, int64_t unit) { return ceil_div(n, unit) * unit; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct Tiling {
  int64_t D;       // head dim
  int64_t stride;  // floats from one copied row of K or V to the next: no power of two of cache lines, against aliasing
  int64_t keys;    // of a tile
  int64_t block;   // queries of a work item, a multiple of kQueries
  int64_t blocks;  // work items of one head
  bool by_head;    // one head's items follow each other, else one block's
};

// K and V of one batch that stay in L2 beside a block of queries: then heads alternate, and what they read and write of a row lies together.
constexpr int64_t kHeldKeys = 256 << 10;  // floats

template <typename Simd>
Tiling tiling(const KernelCall& call, int team) {
  constexpr int64_t kQueries = flash::kQueries<Simd>;
  const TensorView& q = call.in[AttentionAttrs::kQ];
  const int64_t B = q.shape[0], N = q.shape[1], M = call.in[AttentionAttrs::kK].shape[1];
  const int64_t NH = call.attributes<AttentionAttrs>().heads;
  Tiling t;
  t.D = q.channels() / NH;
  t.stride = t.D % 32 == 0 ? t.D + 16 : t.D;
  const int64_t keys = smaller(larger(kKeyTile / (2 * t.D), 6), kMaxKeys);
  t.keys = ceil_div(M, ceil_div(M, keys));
  const int64_t limit = smaller(larger(kQueryTile / (2 * t.D) / kQueries, 8) * kQueries, kMaxBlock);
  // Enough work items to keep the team busy, of even size.
  const int64_t wanted = ceil_div(4 * team, B * NH);
  t.block = smaller(limit, larger(round_up(ceil_div(N, wanted), kQueries), 2 * kQueries));
  t.block = round_up(ceil_div(N, ceil_div(N, t.block)), kQueries);
  t.blocks = ceil_div(N, t.block);
  t.by_head = 2 * M * t.D * NH > kHeldKeys;
  return t;
}

// What a work item is of.
struct Item {
  int64_t batch, head, block;
};
Item item_of(const Tiling& t, int64_t heads, int64_t number) {
  const int64_t batch = number / (heads * t.blocks), rest = number % (heads * t.blocks);
  if (t.by_head) return {batch, rest / t.blocks, rest % t.blocks};
  return {batch, rest % heads, rest / heads};
}

// One member's work memory: floats, each part on a cache line of its own.
struct Scratch {
  float *q, *o;      // [block / kQueries][D][kQueries]
  float *max, *sum;  // [block / kQueries][kQueries]
  float *k, *v;      // [keys][stride], where they are copied
  float* p;          // [keys][kQueries]

  // Lays the parts out from `base`; with a null base only the size counts.
  static int64_t layout(const Tiling& t, int64_t queries, float* base, Scratch* out) {
    const int64_t sizes[] = {t.block * t.D,     t.block * t.D,     t.block,         t.block,
                             t.keys * t.stride, t.keys * t.stride, t.keys * queries};
    float** parts[] = {&out->q, &out->o, &out->max, &out->sum, &out->k, &out->v, &out->p};
    int64_t size = 0;
    for (int i = 0; i < 7; ++i) {
      *parts[i] = base ? base + size : nullptr;
      size += round_up(sizes[i], 16);
    }
    return size;
  }
};

// --- in and out -------------------------------------------------------------------------------------------------------

// Up to kQueries rows of Q times `factor`, transposed: out[D][kQueries]. Rows from `rows` on are zero.
template <typename Simd, typename T>
void transpose_queries(const T* q, int64_t stride, int64_t rows, int64_t D, float factor, float* out) {
  constexpr int64_t kLanes = Simd::kLanes;
  const auto f = Simd::set(factor);
  for (int64_t first = 0; first < kQueries<Simd>; first += kLanes)
    for (int64_t d = 0; d < D; d += kLanes) {
      typename Simd::Vector r[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        r[i] = first + i < rows ? Simd::load(q + (first + i) * stride + d, D - d) * f : Simd::set(0.0f);
      Simd::transpose(r);
      for (int64_t i = 0; i < smaller(D - d, kLanes); ++i) Simd::store(out + (d + i) * kQueries<Simd> + first, r[i]);
    }
}

// A tile's rows of K or V, each of D, in f32.
struct Rows {
  const float* first;
  int64_t stride;
};

// f32 rows of K and V are read where they lie, for a copy, which goes to L2, takes 10 cycles a line; but not where they are further apart
// than kNearRows (10 and 15 KB apart, as in the projections of 1280 channels, they take up to 1.2 times as long as copied ones), nor
// where all meet in two sets of an L1, which on Zen 3 cost a quarter (NOTES.md).
constexpr int64_t kNearRows = 2048, kMeetingRows = 512;  // floats

// Rows of K or V, `stride` apart: where they lie, or copied to `copy` [rows][t.stride].
template <typename Simd, typename T>
Rows rows_in_f32(const T* from, int64_t stride, int64_t rows, const Tiling& t, float* copy) {
  if constexpr (std::is_same_v<T, float>)
    if (stride <= kNearRows && stride % kMeetingRows != 0) return {from, stride};
  for (int64_t r = 0; r < rows; ++r, from += stride)
    for (int64_t d = 0; d < t.D; d += Simd::kLanes)
      Simd::store(copy + r * t.stride + d, Simd::load(from + d, t.D - d), t.D - d);
  return {copy, t.stride};
}

// Oᵀ [D][kQueries] / sum, of which `rows` queries exist.
template <typename Simd, typename T>
void store_output(const float* o, const float* sum, int64_t rows, int64_t D, T* out, int64_t stride) {
  constexpr int64_t kLanes = Simd::kLanes;
  for (int64_t first = 0; first < rows; first += kLanes) {
    const auto inverse = Simd::set(1.0f) / Simd::load(sum + first);
    for (int64_t d = 0; d < D; d += kLanes) {
      const int64_t width = smaller(D - d, kLanes);
      typename Simd::Vector r[kLanes];
      for (int64_t i = 0; i < kLanes; ++i)
        r[i] = i < width ? Simd::load(o + (d + i) * kQueries<Simd> + first) * inverse : Simd::set(0.0f);
      Simd::transpose(r);
      for (int64_t i = 0; i < smaller(rows - first, kLanes); ++i)
        Simd::store(out + (first + i) * stride + d, r[i], width);
    }
  }
}

// --- products ---------------------------------------------------------------------------------------------------------

// Sᵀ [R][kQueries] = K Qᵀ: rows of K `stride` apart.
template <typename Simd, int R>
void scores(const float* k, int64_t stride, const float* q, int64_t D, float* s) {
  typename Simd::Vector acc[R][2];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = Simd::set(0.0f);
  const float* third[(R + 2) / 3];  // rows 0, 3, 6 …: an address has room for one stride, or two
#pragma GCC unroll 5
  for (int i = 0; i < (R + 2) / 3; ++i) third[i] = k + 3 * i * stride;
  const auto step = [&](int64_t d) __attribute__((always_inline)) {
    const auto q0 = Simd::load(q + d * kQueries<Simd>), q1 = Simd::load(q + d * kQueries<Simd> + Simd::kLanes);
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
      const float* const at = third[r / 3] + (r % 3 * stride + d);
      if (Simd::kRowsFromMemory > 0 && r % 3 == 0) {  // has no index
        acc[r][0] = Simd::fmadd_from(at, q0, acc[r][0]);
        acc[r][1] = Simd::fmadd_from(at, q1, acc[r][1]);
        continue;
      }
      const auto x = Simd::set(*at);
      acc[r][0] = Simd::fmadd(x, q0, acc[r][0]);
      acc[r][1] = Simd::fmadd(x, q1, acc[r][1]);
    }
  };
  const auto advance = [&](int64_t steps) __attribute__((always_inline)) {
    q += steps * kQueries<Simd>;
#pragma GCC unroll 5
    for (int i = 0; i < (R + 2) / 3; ++i) {
      third[i] += steps;
      // Without this the compiler makes the pointers anew with each step, by instructions that take the ports of multiply-adds: 0.90 of their
      // rate, with it 0.96.
      asm("" : "+r"(third[i]));
    }
  };
  int64_t left = D;
  for (; left >= 4; left -= 4) {
    step(0), step(1), step(2), step(3);
    advance(4);
  }
#pragma GCC unroll 1
  for (; left > 0; --left) {
    step(0);
    advance(1);
  }
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) Simd::store(s + r * kQueries<Simd> + h * Simd::kLanes, acc[r][h]);
}

// Oᵀ [R][kQueries] = Oᵀ · correction + Vᵀ Pᵀ: rows of V `stride` apart.
template <typename Simd, int R>
void accumulate(const float* v, int64_t stride, const float* p, int64_t keys,
                const typename Simd::Vector (&correction)[2], float* o) {
  typename Simd::Vector acc[R][2];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) acc[r][h] = Simd::load(o + r * kQueries<Simd> + h * Simd::kLanes) * correction[h];
#pragma GCC unroll 4
  for (int64_t j = 0; j < keys; ++j, v += stride, p += kQueries<Simd>) {
    const auto p0 = Simd::load(p), p1 = Simd::load(p + Simd::kLanes);
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
      if (r < Simd::kRowsFromMemory) {
        acc[r][0] = Simd::fmadd_from(v + r, p0, acc[r][0]);
        acc[r][1] = Simd::fmadd_from(v + r, p1, acc[r][1]);
        continue;
      }
      const auto x = Simd::set(v[r]);
      acc[r][0] = Simd::fmadd(x, p0, acc[r][0]);
      acc[r][1] = Simd::fmadd(x, p1, acc[r][1]);
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) Simd::store(o + r * kQueries<Simd> + h * Simd::kLanes, acc[r][h]);
}

// Both by their number of rows, 1 to kMaxRows, less one.
template <typename Simd, int... kRows>
constexpr auto all_scores(std::integer_sequence<int, kRows...>) {
  return std::array{scores<Simd, kRows + 1>...};
}
template <typename Simd, int... kRows>
constexpr auto all_accumulate(std::integer_sequence<int, kRows...>) {
  return std::array{accumulate<Simd, kRows + 1>...};
}
template <typename Simd>
constexpr auto kScores = all_scores<Simd>(std::make_integer_sequence<int, Simd::kMaxRows>());
template <typename Simd>
constexpr auto kAccumulate = all_accumulate<Simd>(std::make_integer_sequence<int, Simd::kMaxRows>());

// --- softmax ----------------------------------------------------------------------------------------------------------

// 2^x for x <= 0, rounded to zero at -127 and below; NaN stays NaN.
template <typename Simd>
inline typename Simd::Vector exp2_nonpositive(typename Simd::Vector x) {
  // NaN is the second operand of max: it survives.
  const Exp2<Simd> e = exp2<Simd>(Simd::max(Simd::set(-127.0f), x));
  return e.mantissa * e.power;
}

// S [keys][kQueries] becomes P; updates maximum and sum [kQueries], and gives what the earlier sum and output must be scaled by.
template <typename Simd>
void softmax(float* s, int64_t keys, float* max, float* sum, typename Simd::Vector (&correction)[2]) {
  constexpr int64_t kRow = kQueries<Simd>, kLanes = Simd::kLanes;
  constexpr int kChains = 4;  // that hide a maximum's latency, for each half
  typename Simd::Vector chain[2][kChains], m[2], sums[2][2];
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h)
#pragma GCC unroll 4
    for (int i = 0; i < kChains; ++i) chain[h][i] = Simd::load(max + h * kLanes);
  // The second operand is the result where one is NaN: it does not stay in the maximum.
  const auto track = [&](int64_t j, int i) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) chain[h][i] = Simd::max(chain[h][i], Simd::load(s + j * kRow + h * kLanes));
  };
  int64_t j = 0;
  for (; j + kChains <= keys; j += kChains)
#pragma GCC unroll 4
    for (int i = 0; i < kChains; ++i) track(j + i, i);
#pragma GCC unroll 1
  for (; j < keys; ++j) track(j, 0);
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    m[h] = Simd::max(Simd::max(chain[h][0], chain[h][1]), Simd::max(chain[h][2], chain[h][3]));
    sums[h][0] = sums[h][1] = Simd::set(0.0f);
  }
  const auto exponentials = [&](int64_t j, int i) __attribute__((always_inline)) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      float* const at = s + j * kRow + h * kLanes;
      const auto p = exp2_nonpositive<Simd>(Simd::load(at) - m[h]);
      Simd::store(at, p);
      sums[h][i] = sums[h][i] + p;
    }
  };
  for (j = 0; j + 2 <= keys; j += 2) {
    exponentials(j, 0);
    exponentials(j + 1, 1);
  }
  if (j < keys) exponentials(j, 0);
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h) {
    float *const old_max = max + h * kLanes, *const old_sum = sum + h * kLanes;
    correction[h] = exp2_nonpositive<Simd>(Simd::load(old_max) - m[h]);
    Simd::store(old_max, m[h]);
    Simd::store(old_sum, Simd::fmadd(Simd::load(old_sum), correction[h], sums[h][0] + sums[h][1]));
  }
}

// Key `first` + j of S [keys][kQueries] is seen by query i where first + j <= i; the others become −∞.
template <typename Simd>
void hide_later_keys(float* s, int64_t keys, int64_t first) {
  for (int64_t j = larger(0, 1 - first); j < keys; ++j)
    for (int64_t i = 0; i < smaller(first + j, kQueries<Simd>); ++i) s[j * kQueries<Simd> + i] = -__builtin_inff();
}

// --- the kernel -------------------------------------------------------------------------------------------------------

// Takes kQueries queries through a tile of keys. first: the tile's first key, counted from the first of these queries.
template <typename Simd>
void process(const Tiling& t, const Scratch& w, Rows k, Rows v, int64_t group, int64_t keys, int64_t first,
             bool causal) {
  constexpr int64_t kQueries = flash::kQueries<Simd>;
  const int64_t D = t.D, used = causal ? smaller(keys, kQueries - first) : keys;  // keys that any of these queries sees
  const float* q = w.q + group * D * kQueries;
  const int64_t key_tiles = ceil_div(used, Simd::kMaxRows), value_tiles = ceil_div(D, Simd::kMaxRows);
  for (int64_t i = 0; i < key_tiles; ++i) {
    const int64_t begin = used * i / key_tiles, end = used * (i + 1) / key_tiles;
    kScores<Simd>[size_t(end - begin - 1)](k.first + begin * k.stride, k.stride, q, D, w.p + begin * kQueries);
  }
  if (causal) hide_later_keys<Simd>(w.p, used, first);
  typename Simd::Vector correction[2];
  softmax<Simd>(w.p, used, w.max + group * kQueries, w.sum + group * kQueries, correction);
  for (int64_t i = 0; i < value_tiles; ++i) {
    const int64_t begin = D * i / value_tiles, end = D * (i + 1) / value_tiles;
    kAccumulate<Simd>[size_t(end - begin - 1)](v.first + begin, v.stride, w.p, used, correction,
                                               w.o + (group * D + begin) * kQueries);
  }
}

template <typename Simd, typename T>
void run(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<AttentionAttrs>();
  const TensorView &q = call.in[AttentionAttrs::kQ], &k = call.in[AttentionAttrs::kK], &v = call.in[AttentionAttrs::kV],
                   &out = call.out;
  const int64_t B = q.shape[0], N = q.shape[1], M = k.shape[1], NH = attrs.heads;
  constexpr int64_t kQueries = flash::kQueries<Simd>;
  const Tiling t = tiling<Simd>(call, team.count);
  const int64_t D = t.D;
  Scratch w;
  const int64_t floats = Scratch::layout(t, kQueries, nullptr, &w);
  Scratch::layout(t, kQueries, static_cast<float*>(call.scratch) + team.index * floats, &w);
  const float factor = attrs.scale * 1.44269504f;

  Items items(team, B * NH * t.blocks);
  for (int64_t number; (number = items.take()) < B * NH * t.blocks;) {
    const auto [b, h, block] = item_of(t, NH, number);
    const int64_t begin = block * t.block;
    const int64_t rows = smaller(t.block, N - begin), groups = ceil_div(rows, kQueries);
    const T* q_block = q.as<T>() + b * q.stride[0] + begin * q.stride[1] + h * D;
    const T* k_head = k.as<T>() + b * k.stride[0] + h * D;
    const T* v_head = v.as<T>() + b * v.stride[0] + h * D;
    for (int64_t g = 0; g < groups; ++g)
      transpose_queries<Simd>(q_block + g * kQueries * q.stride[1], q.stride[1], rows - g * kQueries, D, factor,
                              w.q + g * D * kQueries);
    memset(w.o, 0, size_t(groups * D * kQueries) * sizeof(float));
    for (int64_t r = 0; r < groups * kQueries; ++r) {
      w.max[r] = kLowest;
      w.sum[r] = 0.0f;
    }

    const int64_t seen = attrs.causal ? smaller(M, begin + rows) : M;  // keys that any query of the block sees
    for (int64_t j = 0; j < seen; j += t.keys) {
      const int64_t keys = smaller(t.keys, M - j);
      const Rows k_rows = rows_in_f32<Simd>(k_head + j * k.stride[1], k.stride[1], keys, t, w.k);
      const Rows v_rows = rows_in_f32<Simd>(v_head + j * v.stride[1], v.stride[1], keys, t, w.v);
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = j - begin - g * kQueries;
        if (!attrs.causal || first < kQueries) process<Simd>(t, w, k_rows, v_rows, g, keys, first, attrs.causal);
      }
    }

    T* out_block = out.as<T>() + b * out.stride[0] + begin * out.stride[1] + h * D;
    for (int64_t g = 0; g < groups; ++g)
      store_output<Simd>(w.o + g * D * kQueries, w.sum + g * kQueries, smaller(rows - g * kQueries, kQueries), D,
                         out_block + g * kQueries * out.stride[1], out.stride[1]);
  }
}

const char* reject(const KernelCall& call) {
  const DType type = call.out.dtype;
  if (!is_activation_type(type)) return "out must be f32 or bf16";
  for (int slot : {AttentionAttrs::kQ, AttentionAttrs::kK, AttentionAttrs::kV})
    if (call.in[slot].dtype != type) return "q, k, v and out must be of one dtype";
  return nullptr;
}

template <typename Simd>
size_t scratch_bytes(const KernelCall& call, int team) {
  Scratch unused;
  return size_t(Scratch::layout(tiling<Simd>(call, team), kQueries<Simd>, nullptr, &unused)) * sizeof(float) *
         size_t(team);
}

template <typename Simd>
void launch(const KernelCall& call, const Team& team) {
  call.out.dtype == DType::f32 ? run<Simd, float>(call, team) : run<Simd, bf16_t>(call, team);
}

}  // namespace
}  // namespace darkroom::kernels::flash

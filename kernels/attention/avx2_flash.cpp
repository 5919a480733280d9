// Flash attention for AVX2, 16 queries side by side in two vectors: no more of the N×M matrix exists at a time than 128 keys × 16.
//
//   for each work item (batch, head, block of queries), none depending on another:
//     Qᵀ [16 queries at a time][D][16] → scratch, in f32, times scale · log2(e): the softmax then needs exp2 alone
//     for each tile of keys:                    K, V [keys][D] → scratch, in f32, as they lie
//       for each 16 queries:                    Sᵀ = K Qᵀ             5 or 6 keys × 16 queries: 12 FMA to 8 loads
//                                               Pᵀ = exp2(Sᵀ − max)   running maximum and sum, a lane for each query
//                                               Oᵀ = Oᵀ · correction + Vᵀ Pᵀ    5 or 6 of D × 16 queries
//     out = (Oᵀ / sum)ᵀ
//
// With queries in the lanes nothing is ever summed across a vector, and K and V are broadcast element by element: they need no
// packing beyond a copy, whatever D is. By whole tiles 16 · D cycles go to products for each key and 16 queries, and at 4.5
// cycles a vector 9 to exponentials: 90 % of the peak at D = 40, more above. K and V stream from L2 at 4 bytes a cycle; Pᵀ (8 KB),
// and for small D Qᵀ and Oᵀ too, stay in L1.
//
// Same bits: a query's result depends on the tiles of keys, which follow from D and M; the block of queries may follow the team.
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

constexpr int64_t kQueries = 16;          // side by side
constexpr int64_t kMaxRows = 6;           // keys, or columns of V, of a register tile
constexpr int64_t kMaxKeys = 128;         // of a tile
constexpr int64_t kMaxBlock = 256;        // queries of a work item
constexpr int64_t kKeyTile = 64 << 10;    // floats of K and V of a tile
constexpr int64_t kQueryTile = 48 << 10;  // floats of Qᵀ and Oᵀ of a work item
constexpr float kLowest = -3.0e38f;  // the running maximum before the first key: finite, so that −∞ − max is −∞

constexpr int64_t ceil_div(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }
constexpr int64_t round_up(int64_t n, int64_t unit) { return ceil_div(n, unit) * unit; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct Tiling {
  int64_t D;       // head dim
  int64_t stride;  // floats from one copied row of K or V to the next: no power of two of cache lines, against aliasing
  int64_t keys;    // of a tile
  int64_t block;   // queries of a work item, a multiple of 16
  int64_t blocks;  // work items of one head
};

Tiling tiling(const KernelCall& call, int team) {
  const TensorView& q = call.in[AttentionAttrs::kQ];
  const int64_t B = q.shape[0], N = q.shape[1], M = call.in[AttentionAttrs::kK].shape[1];
  const int64_t NH = call.attributes<AttentionAttrs>().heads;
  Tiling t;
  t.D = q.channels() / NH;
  t.stride = t.D % 32 == 0 ? t.D + 16 : t.D;
  const int64_t keys = smaller(larger(kKeyTile / (2 * t.D), kMaxRows), kMaxKeys);
  t.keys = ceil_div(M, ceil_div(M, keys));
  const int64_t limit = smaller(larger(kQueryTile / (2 * t.D) / kQueries, 8) * kQueries, kMaxBlock);
  // Enough work items to keep the team busy, of even size.
  const int64_t wanted = ceil_div(4 * team, B * NH);
  t.block = smaller(limit, larger(round_up(ceil_div(N, wanted), kQueries), 2 * kQueries));
  t.block = round_up(ceil_div(N, ceil_div(N, t.block)), kQueries);
  t.blocks = ceil_div(N, t.block);
  return t;
}

// One member's work memory: floats, each part on a cache line of its own.
struct Scratch {
  float *q, *o;      // [block / 16][D][16]
  float *max, *sum;  // [block / 16][16]
  float *k, *v;      // [keys][stride]
  float* p;          // [keys][16]

  // Lays the parts out from `base`; with a null base only the size counts.
  static int64_t layout(const Tiling& t, float* base, Scratch* out) {
    const int64_t sizes[] = {t.block * t.D,     t.block * t.D,     t.block,          t.block,
                             t.keys * t.stride, t.keys * t.stride, t.keys * kQueries};
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

template <typename T>
inline __m256 load_part(const T* p, int64_t n) {
  return n >= 8 ? simd::load(p) : simd::load_n(p, int(n));
}
template <typename T>
inline void store_part(T* p, __m256 v, int64_t n) {
  n >= 8 ? simd::store(p, v) : simd::store_n(p, v, int(n));
}

inline void transpose8(__m256 (&r)[8]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
    r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
  }
}

// Up to 16 rows of Q times `factor`, transposed: out[D][16]. Rows from `rows` on are zero.
template <typename T>
void transpose_queries(const T* q, int64_t stride, int64_t rows, int64_t D, float factor, float* out) {
  const __m256 f = _mm256_set1_ps(factor);
  for (int64_t first = 0; first < kQueries; first += 8)
    for (int64_t d = 0; d < D; d += 8) {
      const int64_t width = smaller(D - d, 8);
      __m256 r[8];
      for (int64_t i = 0; i < 8; ++i)
        r[i] =
            first + i < rows ? _mm256_mul_ps(load_part(q + (first + i) * stride + d, width), f) : _mm256_setzero_ps();
      transpose8(r);
      for (int64_t i = 0; i < width; ++i) simd::store(out + (d + i) * kQueries + first, r[i]);
    }
}

// Rows of K or V to f32: out[rows][D], `out_stride` apart.
template <typename T>
void copy_rows(const T* from, int64_t stride, int64_t rows, int64_t D, float* out, int64_t out_stride) {
  for (int64_t r = 0; r < rows; ++r, from += stride, out += out_stride)
    for (int64_t d = 0; d < D; d += 8) store_part(out + d, load_part(from + d, D - d), D - d);
}

// Oᵀ [D][16] / sum, of which `rows` queries exist.
template <typename T>
void store_output(const float* o, const float* sum, int64_t rows, int64_t D, T* out, int64_t stride) {
  for (int64_t first = 0; first < rows; first += 8) {
    const __m256 inverse = _mm256_div_ps(_mm256_set1_ps(1.0f), _mm256_load_ps(sum + first));
    for (int64_t d = 0; d < D; d += 8) {
      const int64_t width = smaller(D - d, 8);
      __m256 r[8];
      for (int64_t i = 0; i < 8; ++i)
        r[i] = i < width ? _mm256_mul_ps(_mm256_load_ps(o + (d + i) * kQueries + first), inverse) : _mm256_setzero_ps();
      transpose8(r);
      for (int64_t i = 0; i < smaller(rows - first, 8); ++i) store_part(out + (first + i) * stride + d, r[i], width);
    }
  }
}

// --- products ---------------------------------------------------------------------------------------------------------

// Sᵀ [R][16] = K Qᵀ: rows of K `stride` apart.
template <int R>
void scores(const float* k, int64_t stride, const float* q, int64_t D, float* s) {
  __m256 acc[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  const float* k3 = k + 3 * stride;
#pragma GCC unroll 4
  for (int64_t d = 0; d < D; ++d, q += kQueries) {
    const __m256 q0 = _mm256_load_ps(q), q1 = _mm256_load_ps(q + 8);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 x = _mm256_broadcast_ss(r < 3 ? k + r * stride + d : k3 + (r - 3) * stride + d);
      acc[r][0] = _mm256_fmadd_ps(x, q0, acc[r][0]);
      acc[r][1] = _mm256_fmadd_ps(x, q1, acc[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    _mm256_store_ps(s + r * kQueries, acc[r][0]);
    _mm256_store_ps(s + r * kQueries + 8, acc[r][1]);
  }
}

// Oᵀ [R][16] = Oᵀ · correction + Vᵀ Pᵀ: rows of V `stride` apart.
template <int R>
void accumulate(const float* v, int64_t stride, const float* p, int64_t keys, const __m256 (&correction)[2], float* o) {
  __m256 acc[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) acc[r][h] = _mm256_mul_ps(_mm256_load_ps(o + r * kQueries + 8 * h), correction[h]);
#pragma GCC unroll 4
  for (int64_t j = 0; j < keys; ++j, v += stride, p += kQueries) {
    const __m256 p0 = _mm256_load_ps(p), p1 = _mm256_load_ps(p + 8);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 x = _mm256_broadcast_ss(v + r);
      acc[r][0] = _mm256_fmadd_ps(x, p0, acc[r][0]);
      acc[r][1] = _mm256_fmadd_ps(x, p1, acc[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) _mm256_store_ps(o + r * kQueries + 8 * h, acc[r][h]);
}

using Scores = void (*)(const float* k, int64_t stride, const float* q, int64_t D, float* s);
using Accumulate = void (*)(const float* v, int64_t stride, const float* p, int64_t keys, const __m256 (&correction)[2],
                            float* o);
constexpr Scores kScores[] = {nullptr, scores<1>, scores<2>, scores<3>, scores<4>, scores<5>, scores<6>};
constexpr Accumulate kAccumulate[] = {nullptr,       accumulate<1>, accumulate<2>, accumulate<3>,
                                      accumulate<4>, accumulate<5>, accumulate<6>};

// --- softmax ----------------------------------------------------------------------------------------------------------

// 2^x for x <= 0, rounded to zero at -127 and below; NaN stays NaN. Relative error below 1.2e-7.
inline __m256 exp2_nonpositive(__m256 x) {
  // The integer part appears in the low bits of x + magic, already biased as an exponent is.
  const __m256 magic = _mm256_set1_ps(0x1.8p23f + 127.0f);
  x = _mm256_max_ps(_mm256_set1_ps(-127.0f), x);  // NaN is the second operand: it survives
  const __m256 shifted = _mm256_add_ps(x, magic);
  const __m256 f = _mm256_sub_ps(x, _mm256_sub_ps(shifted, magic));  // in [-1/2, 1/2]
  // Minimax polynomial of (2^f - 1) / f, relative to 2^f.
  __m256 p = _mm256_set1_ps(1.54614449e-4f);
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.3400428e-3f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(9.61805694e-3f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.55032715e-2f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.240226507f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(0.693147182f));
  p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.0f));
  const __m256i power = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

// S [keys][16] becomes P; updates maximum and sum [16], and gives what the earlier sum and output must be scaled by.
void softmax(float* s, int64_t keys, float* max, float* sum, __m256 (&correction)[2]) {
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h, s += 8, max += 8, sum += 8) {
    const __m256 old_max = _mm256_load_ps(max);
    __m256 m0 = old_max, m1 = old_max;
    int64_t j = 0;
    for (; j + 2 <= keys;
         j += 2) {  // the second operand is the result where one is NaN: it does not stay in the maximum
      m0 = _mm256_max_ps(m0, _mm256_load_ps(s + j * kQueries));
      m1 = _mm256_max_ps(m1, _mm256_load_ps(s + (j + 1) * kQueries));
    }
    if (j < keys) m0 = _mm256_max_ps(m0, _mm256_load_ps(s + j * kQueries));
    const __m256 m = _mm256_max_ps(m0, m1);
    __m256 sum0 = _mm256_setzero_ps(), sum1 = sum0;
    for (j = 0; j + 2 <= keys; j += 2) {
      const __m256 p0 = exp2_nonpositive(_mm256_sub_ps(_mm256_load_ps(s + j * kQueries), m));
      const __m256 p1 = exp2_nonpositive(_mm256_sub_ps(_mm256_load_ps(s + (j + 1) * kQueries), m));
      _mm256_store_ps(s + j * kQueries, p0);
      _mm256_store_ps(s + (j + 1) * kQueries, p1);
      sum0 = _mm256_add_ps(sum0, p0);
      sum1 = _mm256_add_ps(sum1, p1);
    }
    if (j < keys) {
      const __m256 p = exp2_nonpositive(_mm256_sub_ps(_mm256_load_ps(s + j * kQueries), m));
      _mm256_store_ps(s + j * kQueries, p);
      sum0 = _mm256_add_ps(sum0, p);
    }
    correction[h] = exp2_nonpositive(_mm256_sub_ps(old_max, m));
    _mm256_store_ps(max, m);
    _mm256_store_ps(sum, _mm256_fmadd_ps(_mm256_load_ps(sum), correction[h], _mm256_add_ps(sum0, sum1)));
  }
}

// Key `first` + j of S [keys][16] is seen by query i where first + j <= i; the others become −∞.
void hide_later_keys(float* s, int64_t keys, int64_t first) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 hidden = _mm256_set1_ps(-__builtin_inff());
  for (int64_t j = larger(0, 1 - first); j < keys; ++j)
    for (int half = 0; half < 16; half += 8) {
      const __m256i later =
          _mm256_cmpgt_epi32(_mm256_set1_epi32(int(first + j)), _mm256_add_epi32(lane, _mm256_set1_epi32(half)));
      float* at = s + j * kQueries + half;
      _mm256_store_ps(at, _mm256_blendv_ps(_mm256_load_ps(at), hidden, _mm256_castsi256_ps(later)));
    }
}

// --- the kernel -------------------------------------------------------------------------------------------------------

// Takes 16 queries through a tile of keys. first: the tile's first key, counted from the first of these queries.
void process(const Tiling& t, const Scratch& w, int64_t group, int64_t keys, int64_t first, bool causal) {
  const int64_t D = t.D, used = causal ? smaller(keys, kQueries - first) : keys;  // keys that any of these queries sees
  const float* q = w.q + group * D * kQueries;
  const int64_t key_tiles = ceil_div(used, kMaxRows), value_tiles = ceil_div(D, kMaxRows);
  for (int64_t i = 0; i < key_tiles; ++i) {
    const int64_t begin = used * i / key_tiles, end = used * (i + 1) / key_tiles;
    kScores[end - begin](w.k + begin * t.stride, t.stride, q, D, w.p + begin * kQueries);
  }
  if (causal) hide_later_keys(w.p, used, first);
  __m256 correction[2];
  softmax(w.p, used, w.max + group * kQueries, w.sum + group * kQueries, correction);
  for (int64_t i = 0; i < value_tiles; ++i) {
    const int64_t begin = D * i / value_tiles, end = D * (i + 1) / value_tiles;
    kAccumulate[end - begin](w.v + begin, t.stride, w.p, used, correction, w.o + (group * D + begin) * kQueries);
  }
}

template <typename T>
void run(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<AttentionAttrs>();
  const TensorView &q = call.in[AttentionAttrs::kQ], &k = call.in[AttentionAttrs::kK], &v = call.in[AttentionAttrs::kV],
                   &out = call.out;
  const int64_t B = q.shape[0], N = q.shape[1], M = k.shape[1], NH = attrs.heads;
  const Tiling t = tiling(call, team.count);
  const int64_t D = t.D;
  Scratch w;
  const int64_t floats = Scratch::layout(t, nullptr, &w);
  Scratch::layout(t, static_cast<float*>(call.scratch) + team.index * floats, &w);
  const float factor = attrs.scale * 1.44269504f;

  const auto [first_item, last_item] = team.range(B * NH * t.blocks);
  for (int64_t item = first_item; item < last_item; ++item) {
    const int64_t b = item / (NH * t.blocks), h = item / t.blocks % NH, begin = item % t.blocks * t.block;
    const int64_t rows = smaller(t.block, N - begin), groups = ceil_div(rows, kQueries);
    const T* q_block = q.as<T>() + b * q.stride[0] + begin * q.stride[1] + h * D;
    const T* k_head = k.as<T>() + b * k.stride[0] + h * D;
    const T* v_head = v.as<T>() + b * v.stride[0] + h * D;
    for (int64_t g = 0; g < groups; ++g)
      transpose_queries(q_block + g * kQueries * q.stride[1], q.stride[1], rows - g * kQueries, D, factor,
                        w.q + g * D * kQueries);
    memset(w.o, 0, size_t(groups * D * kQueries) * sizeof(float));
    for (int64_t r = 0; r < groups * kQueries; ++r) {
      w.max[r] = kLowest;
      w.sum[r] = 0.0f;
    }

    const int64_t seen = attrs.causal ? smaller(M, begin + rows) : M;  // keys that any query of the block sees
    for (int64_t j = 0; j < seen; j += t.keys) {
      const int64_t keys = smaller(t.keys, M - j);
      copy_rows(k_head + j * k.stride[1], k.stride[1], keys, D, w.k, t.stride);
      copy_rows(v_head + j * v.stride[1], v.stride[1], keys, D, w.v, t.stride);
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t first = j - begin - g * kQueries;
        if (!attrs.causal || first < kQueries) process(t, w, g, keys, first, attrs.causal);
      }
    }

    T* out_block = out.as<T>() + b * out.stride[0] + begin * out.stride[1] + h * D;
    for (int64_t g = 0; g < groups; ++g)
      store_output(w.o + g * D * kQueries, w.sum + g * kQueries, smaller(rows - g * kQueries, kQueries), D,
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

size_t scratch_bytes(const KernelCall& call, int team) {
  Scratch unused;
  return size_t(Scratch::layout(tiling(call, team), nullptr, &unused)) * sizeof(float) * size_t(team);
}

void launch(const KernelCall& call, const Team& team) {
  call.out.dtype == DType::f32 ? run<float>(call, team) : run<bf16_t>(call, team);
}

}  // namespace

extern const KernelDef attention_avx2_flash;
const KernelDef attention_avx2_flash = {
    .op = OpKind::attention,
    .variant = "avx2_flash",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

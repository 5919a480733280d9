// Flash attention for AVX2: no more of the N×M matrix exists at a time than 12 rows × 128 keys, which stay in L1.
//
//   for each work item (batch, head, block of queries), none depending on another:
//     Q block → scratch, in f32, times scale · log2(e): the softmax then needs exp2 alone
//     for each tile of keys:                         pack Kᵀ [16 keys at a time][D][16], V [16 columns][keys][16]
//       for each 12 queries:                         S = Q Kᵀ            6×16 register tiles, 12 FMA to 8 loads
//                                                    P = exp2(S − max)   running maximum and sum of each row
//                                                    O = O · correction + P V    6×16 tiles, or 4×24 for D % 16 = 8
//     out = O / sum
//
// The packed tiles live in L2 and are read once per 12 queries: 64 bytes of L2 to 12 × 16 FMAs. Packing them costs
// about 4·D cycles per key and block of queries, hence the large blocks. A query's result depends on the tiles of keys
// only, so the block of queries may follow the size of the team without touching a bit of the result.
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

constexpr int64_t kMaxKeys = 128;          // keys of a tile at most; the row stride of S and P
constexpr int64_t kSubRows = 12;           // queries that go through S, softmax and P V together
constexpr int64_t kMaxBlock = 192;         // queries of a work item at most
constexpr int64_t kPackedTile = 64 << 10;  // floats of packed K and V: a quarter of a MiB
constexpr int64_t kQueryTile = 128 << 10;  // floats of Q and O
constexpr float kLowest = -3.0e38f;  // the running maximum before the first key: finite, so that −∞ − max is −∞

constexpr int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

struct Tiling {
  int64_t D;        // head dim
  int64_t columns;  // D rounded up to whole vectors: columns of V and O
  int64_t stride;   // floats from one row of Q or O to the next; an odd number of cache lines, against aliasing
  int64_t keys;     // of a tile, a multiple of 16
  int64_t block;    // queries of a work item, a multiple of 12
  int64_t blocks;   // work items of one head
};

Tiling tiling(const KernelCall& call, int team) {
  const TensorView& q = call.in[AttentionAttrs::kQ];
  const int64_t B = q.shape[0], N = q.shape[1], M = call.in[AttentionAttrs::kK].shape[1];
  const int64_t NH = call.attributes<AttentionAttrs>().heads;
  Tiling t;
  t.D = q.channels() / NH;
  t.columns = round_up(t.D, 8);
  t.stride = round_up(t.D, 32) + 16;
  t.keys = smaller(larger(kPackedTile / (2 * t.columns) / 16 * 16, 16), kMaxKeys);
  t.keys = smaller(t.keys, round_up(M, 16));
  t.block = smaller(larger(kQueryTile / (2 * t.stride) / kSubRows * kSubRows, kSubRows), kMaxBlock);
  // Enough work items to keep the team busy, of even size.
  const int64_t wanted = (4 * team + B * NH - 1) / (B * NH);
  t.block = smaller(t.block, larger(round_up((N + wanted - 1) / wanted, kSubRows), 4 * kSubRows));
  t.blocks = (N + t.block - 1) / t.block;
  t.block = round_up((N + t.blocks - 1) / t.blocks, kSubRows);
  t.blocks = (N + t.block - 1) / t.block;
  return t;
}

// One member's work memory: floats, each part on a cache line of its own.
struct Scratch {
  float *q, *o, *max, *sum, *k, *v, *s, *correction;

  // Lays the parts out from `base`; with a null base only the size counts.
  static int64_t layout(const Tiling& t, float* base, Scratch* out) {
    const int64_t sizes[] = {t.block * t.stride, t.block * t.stride,  t.block, t.block, t.keys * t.D,
                             t.keys * t.columns, kSubRows * kMaxKeys, kSubRows};
    float** parts[] = {&out->q, &out->o, &out->max, &out->sum, &out->k, &out->v, &out->s, &out->correction};
    int64_t size = 0;
    for (int i = 0; i < 8; ++i) {
      *parts[i] = base ? base + size : nullptr;
      size += round_up(sizes[i], 16);
    }
    return size;
  }
};

// 2^x for x <= 0, rounded to zero at -127 and below; NaN stays NaN. Relative error below 1.2e-7.
static inline __m256 exp2_nonpositive(__m256 x) {
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

static inline __m256 load_tail(const float* p, int64_t n) { return n >= 8 ? simd::load(p) : simd::load_n(p, int(n)); }
static inline __m256 load_tail(const bf16_t* p, int64_t n) { return n >= 8 ? simd::load(p) : simd::load_n(p, int(n)); }

// Rows of Q times `factor`; rows from `rows` to `padded` become zero.
template <typename T>
void pack_queries(const Tiling& t, const T* q, int64_t q_stride, int64_t rows, int64_t padded, float factor,
                  float* out) {
  const __m256 f = _mm256_set1_ps(factor);
  for (int64_t r = 0; r < padded; ++r, out += t.stride)
    for (int64_t d = 0; d < t.D; d += 8)
      simd::store(out + d, r < rows ? _mm256_mul_ps(load_tail(q + r * q_stride + d, t.D - d), f) : _mm256_setzero_ps());
}

static inline void transpose8(__m256 (&r)[8]) {
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

// K transposed, 16 keys side by side: out[panel][d][16]. Keys from `keys` to the end of the last panel are zero.
template <typename T>
void pack_keys(const Tiling& t, const T* k, int64_t k_stride, int64_t keys, float* out) {
  for (int64_t panel = 0; panel < keys; panel += 16, out += t.D * 16)
    for (int64_t half = 0; half < 16; half += 8) {
      const int64_t first = panel + half, n = smaller(larger(keys - first, 0), 8);
      for (int64_t d = 0; d < t.D; d += 8) {
        const int64_t left = smaller(t.D - d, 8);
        __m256 r[8];
        for (int64_t i = 0; i < 8; ++i)
          r[i] = i < n ? load_tail(k + (first + i) * k_stride + d, left) : _mm256_setzero_ps();
        transpose8(r);
        for (int64_t i = 0; i < left; ++i) simd::store(out + (d + i) * 16 + half, r[i]);
      }
    }
}

// Width of the panel of V that starts at column d: 16, or at the end 24 or 8.
static inline int64_t panel_width(const Tiling& t, int64_t d) {
  const int64_t left = t.columns - d;
  return left == 24 || left == 8 ? left : 16;
}

// V in panels of columns: out[panel][key][width]. Columns beyond D are zero.
template <typename T>
void pack_values(const Tiling& t, const T* v, int64_t v_stride, int64_t keys, float* out) {
  for (int64_t d = 0; d < t.columns;) {
    const int64_t width = panel_width(t, d);
    for (int64_t j = 0; j < keys; ++j, out += width)
      for (int64_t c = 0; c < width; c += 8) simd::store(out + c, load_tail(v + j * v_stride + d + c, t.D - d - c));
    d += width;
  }
}

// S[6][16] = Q Kᵀ for one panel of keys.
static inline void scores_6x16(const float* q, int64_t q_stride, const float* k, int64_t D, float* s) {
  __m256 acc[6][2];
#pragma GCC unroll 6
  for (int r = 0; r < 6; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_ps();
  const float* q3 = q + 3 * q_stride;
  for (int64_t d = 0; d < D; ++d, k += 16) {
    const __m256 k0 = _mm256_load_ps(k), k1 = _mm256_load_ps(k + 8);
#pragma GCC unroll 6
    for (int r = 0; r < 6; ++r) {
      const __m256 x = _mm256_broadcast_ss(r < 3 ? q + r * q_stride + d : q3 + (r - 3) * q_stride + d);
      acc[r][0] = _mm256_fmadd_ps(x, k0, acc[r][0]);
      acc[r][1] = _mm256_fmadd_ps(x, k1, acc[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < 6; ++r) {
    _mm256_store_ps(s + r * kMaxKeys, acc[r][0]);
    _mm256_store_ps(s + r * kMaxKeys + 8, acc[r][1]);
  }
}

// O[kRows][8 kVectors] = O · correction + P V, V with rows `v_stride` apart.
template <int kRows, int kVectors>
static inline void accumulate(const float* p, const float* v, int64_t v_stride, int64_t keys, const float* correction,
                              float* o, int64_t o_stride) {
  __m256 acc[kRows][kVectors];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int w = 0; w < kVectors; ++w)
      acc[r][w] = _mm256_mul_ps(_mm256_load_ps(o + r * o_stride + 8 * w), _mm256_broadcast_ss(correction + r));
  for (int64_t j = 0; j < keys; ++j, v += v_stride) {
    __m256 x[kVectors];
#pragma GCC unroll 3
    for (int w = 0; w < kVectors; ++w) x[w] = _mm256_load_ps(v + 8 * w);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      const __m256 weight = _mm256_broadcast_ss(p + r * kMaxKeys + j);
#pragma GCC unroll 3
      for (int w = 0; w < kVectors; ++w) acc[r][w] = _mm256_fmadd_ps(weight, x[w], acc[r][w]);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 3
    for (int w = 0; w < kVectors; ++w) _mm256_store_ps(o + r * o_stride + 8 * w, acc[r][w]);
}

// One row of S becomes P; updates the row's maximum and sum, returns what the earlier sum and output must be scaled by.
static inline float softmax_row(float* s, int64_t columns, float& max, float& sum) {
  __m256 m0 = _mm256_set1_ps(max), m1 = m0;
  int64_t j = 0;
  for (; j + 16 <= columns; j += 16) {
    m0 = _mm256_max_ps(m0, _mm256_load_ps(s + j));
    m1 = _mm256_max_ps(m1, _mm256_load_ps(s + j + 8));
  }
  if (j < columns) m0 = _mm256_max_ps(m0, _mm256_load_ps(s + j));
  const float new_max = simd::max(_mm256_max_ps(m0, m1));
  const __m256 m = _mm256_set1_ps(new_max);
  __m256 sum0 = _mm256_setzero_ps(), sum1 = sum0;
  for (j = 0; j + 16 <= columns; j += 16) {
    const __m256 p0 = exp2_nonpositive(_mm256_sub_ps(_mm256_load_ps(s + j), m));
    const __m256 p1 = exp2_nonpositive(_mm256_sub_ps(_mm256_load_ps(s + j + 8), m));
    _mm256_store_ps(s + j, p0);
    _mm256_store_ps(s + j + 8, p1);
    sum0 = _mm256_add_ps(sum0, p0);
    sum1 = _mm256_add_ps(sum1, p1);
  }
  if (j < columns) {
    const __m256 p = exp2_nonpositive(_mm256_sub_ps(_mm256_load_ps(s + j), m));
    _mm256_store_ps(s + j, p);
    sum0 = _mm256_add_ps(sum0, p);
  }
  const float correction = _mm256_cvtss_f32(exp2_nonpositive(_mm256_set1_ps(max - new_max)));
  max = new_max;
  sum = sum * correction + simd::sum(_mm256_add_ps(sum0, sum1));
  return correction;
}

// Takes 6 or 12 queries, from `row` of the block on, through one packed tile of keys.
// causal: the first of them sees `first_visible` keys of the tile (0 or less: none), each next one a key more.
void process(const Tiling& t, const Scratch& w, int64_t row, int64_t rows, int64_t keys, int64_t first_visible,
             bool causal) {
  const int64_t used = causal ? smaller(keys, first_visible + rows - 1) : keys;  // keys that any of the rows sees
  const int64_t columns = round_up(used, 8);
  const float* q = w.q + row * t.stride;
  for (int64_t j = 0; j < used; j += 16)
    for (int64_t r = 0; r < rows; r += 6)
      scores_6x16(q + r * t.stride, t.stride, w.k + j * t.D, t.D, w.s + r * kMaxKeys + j);

  for (int64_t r = 0; r < rows; ++r) {
    float* s = w.s + r * kMaxKeys;
    const int64_t seen = causal ? larger(smaller(first_visible + r, used), 0) : used;
    for (int64_t j = seen; j < columns; ++j) s[j] = -__builtin_inff();
    w.correction[r] = softmax_row(s, columns, w.max[row + r], w.sum[row + r]);
  }

  float* o = w.o + row * t.stride;
  const float* v = w.v;
  for (int64_t d = 0; d < t.columns;) {
    const int64_t width = panel_width(t, d);
    for (int64_t r = 0; r < rows;) {
      const float *p = w.s + r * kMaxKeys, *c = w.correction + r;
      float* tile = o + r * t.stride + d;
      if (width == 16) {
        accumulate<6, 2>(p, v, width, used, c, tile, t.stride);
        r += 6;
      } else if (width == 24 && rows - r >= 4) {
        accumulate<4, 3>(p, v, width, used, c, tile, t.stride);
        r += 4;
      } else if (width == 24) {
        accumulate<2, 3>(p, v, width, used, c, tile, t.stride);
        r += 2;
      } else if (rows - r >= 12) {
        accumulate<12, 1>(p, v, width, used, c, tile, t.stride);
        r += 12;
      } else {
        accumulate<6, 1>(p, v, width, used, c, tile, t.stride);
        r += 6;
      }
    }
    v += keys * width;
    d += width;
  }
}

static inline void store_tail(float* p, __m256 x, int64_t n) {
  n >= 8 ? simd::store(p, x) : simd::store_n(p, x, int(n));
}
static inline void store_tail(bf16_t* p, __m256 x, int64_t n) {
  n >= 8 ? simd::store(p, x) : simd::store_n(p, x, int(n));
}

template <typename T>
void run(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<AttentionAttrs>();
  const TensorView &q = call.in[AttentionAttrs::kQ], &k = call.in[AttentionAttrs::kK], &v = call.in[AttentionAttrs::kV],
                   &out = call.out;
  const int64_t B = q.shape[0], N = q.shape[1], M = k.shape[1], NH = attrs.heads;
  const Tiling t = tiling(call, team.count);
  Scratch w;
  const int64_t floats = Scratch::layout(t, nullptr, &w);
  Scratch::layout(t, static_cast<float*>(call.scratch) + team.index * floats, &w);
  const float factor = attrs.scale * 1.44269504f;

  const auto [first, last] = team.range(B * NH * t.blocks);
  for (int64_t item = first; item < last; ++item) {
    const int64_t b = item / (NH * t.blocks), h = item / t.blocks % NH, begin = item % t.blocks * t.block;
    const int64_t rows = smaller(t.block, N - begin), padded = round_up(rows, 6);
    const T* q_block = q.as<T>() + b * q.stride[0] + begin * q.stride[1] + h * t.D;
    const T* k_head = k.as<T>() + b * k.stride[0] + h * t.D;
    const T* v_head = v.as<T>() + b * v.stride[0] + h * t.D;
    pack_queries(t, q_block, q.stride[1], rows, padded, factor, w.q);
    memset(w.o, 0, size_t(padded * t.stride) * sizeof(float));
    for (int64_t r = 0; r < padded; ++r) {
      w.max[r] = kLowest;
      w.sum[r] = 0.0f;
    }

    const int64_t seen = attrs.causal ? smaller(M, begin + rows) : M;  // keys that any query of the block sees
    for (int64_t j = 0; j < seen; j += t.keys) {
      const int64_t keys = smaller(t.keys, M - j);
      pack_keys(t, k_head + j * k.stride[1], k.stride[1], keys, w.k);
      pack_values(t, v_head + j * v.stride[1], v.stride[1], keys, w.v);
      for (int64_t r = 0; r < padded; r += kSubRows) {
        const int64_t sub_rows = smaller(kSubRows, padded - r);
        const int64_t first_visible = begin + r - j + 1;  // keys of the tile that the first query sees
        if (attrs.causal && first_visible + sub_rows - 1 <= 0) continue;
        process(t, w, r, sub_rows, keys, first_visible, attrs.causal);
      }
    }

    for (int64_t r = 0; r < rows; ++r) {
      T* row = out.as<T>() + b * out.stride[0] + (begin + r) * out.stride[1] + h * t.D;
      const __m256 inverse = _mm256_set1_ps(1.0f / w.sum[r]);
      for (int64_t d = 0; d < t.D; d += 8)
        store_tail(row + d, _mm256_mul_ps(_mm256_load_ps(w.o + r * t.stride + d), inverse), t.D - d);
    }
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

// Flash attention with products of bf16 (AVX512-BF16): no more of the N×M matrix exists at a time than 14 rows × 256 keys.
//
//   for each work item (batch, head, block of queries), none depending on another:
//     Q block → scratch, rows of bf16
//     for each tile of keys:            pack K in pairs along D, [32 keys at a time][D/2][32][2],
//                                       V in pairs along the keys, [32 columns at a time][keys/2][32][2]
//       for each 14 queries:            S = Q Kᵀ                       the GEMM core's 14×32 tile, f32
//                                       P = exp2((S − max) · factor)   factor = scale · log2(e); rounded to bf16
//                                       O = O · correction + P V       the same tile, or 14×16 for the last columns
//     out = O / sum
//
// Q and K enter as they are stored: the products of bf16 are exact, so S has the error of an f32 sum. P is rounded to bf16
// once, relative 2^-9; sums of P are taken before that. Packed tiles (256 KB) and the block's Q and O share the 1 MiB of L2.
// A query's result depends on the tiles of keys only: the block of queries may follow the size of the team.
//
// Modelled, not measured, cycles for 14 queries × 256 keys at D = 40: 4480 vdpbf16ps for S, 5376 for P V (48 columns), about
// 2700 for the exponentials: 71 % of the peak of 8960.
#include <type_traits>

#include "kernels/core/gemm_tile_avx512.h"
#include "kernels/core/reject.h"
#include "kernels/core/simd_avx512_bf16.h"

namespace darkroom::kernels {
namespace {

using namespace gemm_avx512;

constexpr int64_t kMaxKeys = 256;        // keys of a tile at most
constexpr int64_t kMaxBlock = 14 * kMr;  // queries of a work item at most
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kPackedTile = 128 << 10;  // elements of packed K and V: a quarter of a MiB
constexpr float kLowest = -1.0e30f;  // the running maximum before the first key: finite, so that −∞ − max is −∞

constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The tile's arithmetic on A with rows kStride apart.
template <int64_t kStride>
struct Pairs {
  using Cell = bf16_t;
  using Sum = float;
  using Vector = __m512;
  static constexpr int64_t kGroup = 2, kLda = kStride;

  static __m512 zero() { return _mm512_setzero_ps(); }
  static __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
  static __m512i broadcast(const bf16_t* p) { return simd512::broadcast_pair(p); }
  static __m512i load_weights(const bf16_t* p) { return _mm512_loadu_si512(p); }
  static __m512 multiply_add(__m512 sums, __m512i a, __m512i w) { return simd512::dot_bf16(sums, a, w); }
};
using Queries = Pairs<kMaxHeadDim + 32>;  // 17 cache lines, odd, spreads the sets
using Weights = Pairs<kMaxKeys + 32>;     // 9 cache lines

struct Tiling {
  int64_t D;        // head dim
  int64_t columns;  // D rounded up to whole vectors: columns of V
  int64_t panels;   // of 32 columns of O, the last of which may be half used
  int64_t keys;     // of a tile, a multiple of 32
  int64_t block;    // queries of a work item
  int64_t blocks;   // work items of one head
};

Tiling tiling(const KernelCall& call, int team) {
  const TensorView& q = call.in[AttentionAttrs::kQ];
  const int64_t B = q.shape[0], N = q.shape[1], M = call.in[AttentionAttrs::kK].shape[1];
  const int64_t NH = call.attributes<AttentionAttrs>().heads;
  Tiling t;
  t.D = q.channels() / NH;
  t.columns = round_up(t.D, 16);
  t.panels = ceil_div(t.columns, kNr);
  t.keys = smaller(larger(kPackedTile / (2 * t.columns) / 32 * 32, 32), kMaxKeys);
  t.keys = smaller(t.keys, round_up(M, 32));
  // Enough work items to keep the team busy, of even size.
  const int64_t wanted = ceil_div(4 * team, B * NH);
  t.block = smaller(kMaxBlock, larger(round_up(ceil_div(N, wanted), kMr), 4 * kMr));
  t.blocks = ceil_div(N, t.block);
  t.block = round_up(ceil_div(N, t.blocks), kMr);
  t.blocks = ceil_div(N, t.block);
  return t;
}

// One member's work memory, each part on cache lines of its own.
struct Scratch {
  bf16_t* q;      // [block][Queries::kLda]
  bf16_t *k, *v;  // packed
  bf16_t* p;      // [14][Weights::kLda]
  float* s;       // [keys / 32][14][32]
  float* o;       // [block / 14][panels][14][32]
  float *max, *sum, *correction;

  // Lays the parts out from `base`; with a null base only the bytes count.
  static int64_t layout(const Tiling& t, char* base, Scratch* out) {
    int64_t size = 0;
    const auto place = [&](auto*& part, int64_t elements) {
      using T = std::remove_reference_t<decltype(*part)>;
      part = base ? reinterpret_cast<T*>(base + size) : nullptr;
      size += round_up(elements * int64_t(sizeof(T)), 64);
    };
    place(out->q, t.block * Queries::kLda);
    place(out->k, t.keys * round_up(t.D, 2));
    place(out->v, t.keys * t.columns);
    place(out->p, kMr * Weights::kLda);
    place(out->s, t.keys * kMr);
    place(out->o, t.block * t.panels * kNr);
    place(out->max, t.block);
    place(out->sum, t.block);
    place(out->correction, kMr);
    return size;
  }
};

// 2^x for x <= 0 (or a rounding above), zero at -127 and below; NaN stays NaN. Relative error below 3e-6, a thousandth of
// what rounding to bf16 adds.
static inline __m512 exp2_nonpositive(__m512 x) {
  // The integer part appears in the low bits of x + magic, already biased as an exponent is.
  const __m512 magic = _mm512_set1_ps(0x1.8p23f + 127.0f);
  x = _mm512_max_ps(_mm512_set1_ps(-127.0f), x);  // NaN is the second operand: it survives
  const __m512 shifted = _mm512_add_ps(x, magic);
  const __m512 f = _mm512_sub_ps(x, _mm512_sub_ps(shifted, magic));  // in [-1/2, 1/2]
  __m512 p = _mm512_set1_ps(9.58285287e-3f);
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.59064249e-2f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240240986f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693124193f));
  p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
  const __m512i power = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
  return _mm512_mul_ps(p, _mm512_castsi512_ps(power));
}

static inline void transpose16(__m512i (&r)[16]) {
  __m512i t[16], u[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    u[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    u[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    u[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    u[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  // u[4g + c]: column 4L + c of rows 4g … 4g+3 in the 128-bit lane L.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const __m512i even_low = _mm512_shuffle_i32x4(u[c], u[4 + c], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(u[c], u[4 + c], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(u[8 + c], u[12 + c], 0xdd);
    r[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    r[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    r[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    r[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

static inline __mmask32 first_of_32(int64_t n) { return n >= 32 ? ~__mmask32(0) : (__mmask32(1) << n) - 1; }

// K transposed in pairs, 32 keys side by side: out[panel][d / 2][32][2]. Keys from `keys` to the end of the last panel are
// zero, and so is the second half of the last pair where D is odd.
void pack_keys(const Tiling& t, const bf16_t* k, int64_t k_stride, int64_t keys, bf16_t* out) {
  const int64_t pairs = ceil_div(t.D, 2);
  for (int64_t panel = 0; panel < keys; panel += 32, out += pairs * 64)
    for (int64_t half = 0; half < 32; half += 16) {
      const int64_t first = panel + half, n = smaller(larger(keys - first, 0), 16);
      for (int64_t pair = 0; pair < pairs; pair += 16) {
        const __mmask32 mask = first_of_32(t.D - 2 * pair);
        __m512i r[16];
        for (int64_t i = 0; i < 16; ++i)
          r[i] = i < n ? _mm512_maskz_loadu_epi16(mask, k + (first + i) * k_stride + 2 * pair) : _mm512_setzero_si512();
        transpose16(r);
        for (int64_t i = 0; i < smaller(pairs - pair, 16); ++i)
          _mm512_storeu_si512(out + ((pair + i) * 32 + half) * 2, r[i]);
      }
    }
}

// V in pairs along the keys, in panels of 32 columns, the last of 16 where that is enough: out[panel][key / 2][width][2].
// Columns beyond D and the key beyond an odd number are zero.
void pack_values(const Tiling& t, const bf16_t* v, int64_t v_stride, int64_t keys, bf16_t* out) {
  for (int64_t d = 0; d < t.columns; d += kNr) {
    const int64_t width = smaller(kNr, t.columns - d);
    for (int64_t j = 0; j < keys; j += 2)
      for (int64_t c = 0; c < width; c += 16, out += 32) {
        const __mmask16 mask = simd512::first(larger(t.D - d - c, 0));
        const bf16_t* row = v + j * v_stride + d + c;
        __m512i pair = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row));
        if (j + 1 < keys)
          pair = _mm512_or_si512(
              pair, _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, row + v_stride)), 16));
        _mm512_storeu_si512(out, pair);
      }
  }
}

// One row of S, in panels of 32 keys kMr · 32 apart, becomes P in bf16. Updates the row's maximum and sum, returns what the earlier sum and output must be scaled by.
static inline float softmax_row(const float* s, int64_t columns, float factor, bf16_t* p, float& max, float& sum) {
  const int64_t panels = ceil_div(columns, 32);
  __m512 m0 = _mm512_set1_ps(max), m1 = m0;
  for (int64_t i = 0; i < panels; ++i) {
    m0 = _mm512_max_ps(m0, simd512::load(s + i * kMr * 32));
    m1 = _mm512_max_ps(m1, simd512::load(s + i * kMr * 32 + 16));
  }
  const float new_max = simd512::max(_mm512_max_ps(m0, m1));
  const __m512 f = _mm512_set1_ps(factor), offset = _mm512_set1_ps(-new_max * factor);
  __m512 sum0 = _mm512_setzero_ps(), sum1 = sum0;
  for (int64_t i = 0; i < panels; ++i) {
    const __m512 p0 = exp2_nonpositive(_mm512_fmadd_ps(simd512::load(s + i * kMr * 32), f, offset));
    const __m512 p1 = exp2_nonpositive(_mm512_fmadd_ps(simd512::load(s + i * kMr * 32 + 16), f, offset));
    sum0 = _mm512_add_ps(sum0, p0);
    sum1 = _mm512_add_ps(sum1, p1);
    simd512::store_operand(p + i * 32, p0);
    simd512::store_operand(p + i * 32 + 16, p1);
  }
  const float correction = _mm512_cvtss_f32(exp2_nonpositive(_mm512_set1_ps((max - new_max) * factor)));
  max = new_max;
  sum = sum * correction + simd512::sum(_mm512_add_ps(sum0, sum1));
  return correction;
}

// Takes up to 14 queries, group `group` of the block, through one packed tile of keys.
// causal: the first of them sees `first_visible` keys of the tile (0 or less: none), each next one a key more.
void process(const Tiling& t, const Scratch& w, int64_t group, int64_t rows, int64_t keys, int64_t first_visible,
             const AttentionAttrs& attrs) {
  const int64_t used = attrs.causal ? smaller(keys, first_visible + rows - 1) : keys;  // that any of the rows sees
  const int64_t columns = round_up(used, 32), depth = round_up(t.D, 2);
  const float factor = attrs.scale * 1.44269504f;
  const auto scores = micro_kernel_of<bf16_t, Queries>(rows);
  for (int64_t j = 0; j < used; j += 32)
    scores(w.q + group * kMr * Queries::kLda, w.k + j * depth, depth, w.s + j * kMr, false);

  for (int64_t r = 0; r < rows; ++r) {
    float* s = w.s + r * 32;
    const int64_t seen = attrs.causal ? larger(smaller(first_visible + r, used), 0) : used;
    for (int64_t j = seen; j < columns; ++j) s[j / 32 * kMr * 32 + j % 32] = -__builtin_inff();
    w.correction[r] =
        softmax_row(s, columns, factor, w.p + r * Weights::kLda, w.max[group * kMr + r], w.sum[group * kMr + r]);
  }

  const bf16_t* v = w.v;
  for (int64_t panel = 0; panel < t.panels; ++panel) {
    const int64_t width = smaller(kNr, t.columns - panel * kNr);
    float* o = w.o + (group * t.panels + panel) * kMr * kNr;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < width; c += 16)
        simd512::store(o + r * kNr + c, _mm512_mul_ps(simd512::load(o + r * kNr + c), _mm512_set1_ps(w.correction[r])));
    const auto sums = width == kNr ? micro_kernel_of<bf16_t, Weights>(rows) : micro_kernel_of<bf16_t, Weights, 1>(rows);
    sums(w.p, v, round_up(used, 2), o, true);
    v += round_up(keys, 2) * width;
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

size_t scratch_bytes(const KernelCall& call, int team) {
  Scratch unused;
  return size_t(Scratch::layout(tiling(call, team), nullptr, &unused)) * size_t(team);
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<AttentionAttrs>();
  const TensorView &q = call.in[AttentionAttrs::kQ], &k = call.in[AttentionAttrs::kK], &v = call.in[AttentionAttrs::kV],
                   &out = call.out;
  const int64_t B = q.shape[0], N = q.shape[1], M = k.shape[1], NH = attrs.heads;
  const Tiling t = tiling(call, team.count);
  Scratch w;
  const int64_t bytes = Scratch::layout(t, nullptr, &w);
  Scratch::layout(t, static_cast<char*>(call.scratch) + team.index * bytes, &w);

  const auto [first, last] = team.range(B * NH * t.blocks);
  for (int64_t item = first; item < last; ++item) {
    const int64_t b = item / (NH * t.blocks), h = item / t.blocks % NH, begin = item % t.blocks * t.block;
    const int64_t rows = smaller(t.block, N - begin), groups = ceil_div(rows, kMr);
    const bf16_t* q_block = q.as<bf16_t>() + b * q.stride[0] + begin * q.stride[1] + h * t.D;
    const bf16_t* k_head = k.as<bf16_t>() + b * k.stride[0] + h * t.D;
    const bf16_t* v_head = v.as<bf16_t>() + b * v.stride[0] + h * t.D;
    for (int64_t r = 0; r < rows; ++r) {
      memcpy(w.q + r * Queries::kLda, q_block + r * q.stride[1], size_t(t.D) * sizeof(bf16_t));
      w.q[r * Queries::kLda + t.D] = {0};  // the second half of the last pair where D is odd
      w.max[r] = kLowest;
      w.sum[r] = 0.0f;
    }
    memset(w.o, 0, size_t(groups * t.panels * kMr * kNr) * sizeof(float));

    const int64_t seen = attrs.causal ? smaller(M, begin + rows) : M;  // keys that any query of the block sees
    for (int64_t j = 0; j < seen; j += t.keys) {
      const int64_t keys = smaller(t.keys, M - j);
      pack_keys(t, k_head + j * k.stride[1], k.stride[1], keys, w.k);
      pack_values(t, v_head + j * v.stride[1], v.stride[1], keys, w.v);
      for (int64_t group = 0; group < groups; ++group) {
        const int64_t group_rows = smaller(kMr, rows - group * kMr);
        const int64_t first_visible = begin + group * kMr - j + 1;  // keys of the tile that the first query sees
        if (attrs.causal && first_visible + group_rows - 1 <= 0) continue;
        process(t, w, group, group_rows, keys, first_visible, attrs);
      }
    }

    for (int64_t r = 0; r < rows; ++r) {
      bf16_t* row = out.as<bf16_t>() + b * out.stride[0] + (begin + r) * out.stride[1] + h * t.D;
      const __m512 inverse = _mm512_set1_ps(1.0f / w.sum[r]);
      const float* o = w.o + (r / kMr * t.panels * kMr + r % kMr) * kNr;
      for (int64_t d = 0; d < t.D; d += 16)
        simd512::store(row + d, _mm512_mul_ps(simd512::load(o + d / kNr * kMr * kNr + d % kNr), inverse),
                       simd512::first(t.D - d));
    }
  }
}

}  // namespace

extern const KernelDef attention_avx512_bf16_flash;
const KernelDef attention_avx512_bf16_flash = {
    .op = OpKind::attention,
    .variant = "avx512_bf16_flash",
    .isa = Isa::avx512_bf16,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

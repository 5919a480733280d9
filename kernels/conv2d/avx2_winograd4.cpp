// conv2d and norm_conv2d on AVX2 by Winograd's F(4×4, 3×3): a quarter of the multiplications, in f32 (winograd4_avx2.h has the algorithm and
// its error).
//
//   for each block of tiles (up to 132, of all samples):
//     for each chunk of channels:
//       V [kc-block][group][36][6][kc]   the input's transform, shared by the team; a strip of pixels at a time in L1
//       for each 32 output channels:                              this member's part of 32-channel blocks × sub-blocks
//         for each kc-block:
//           U [2][36][kc][16]            the weights' transform: made here, used for all tiles of the block, then forgotten
//           for each sub-block of 48 tiles:
//             M [2][group][36][6][16] += V · U     36 products of [48, kc] · [kc, 32], by 6 × 16 register tiles
//             after the last channel: the output's transform, epilogue, store
//
// Weights stay as small as they are stored (panels of 16 output channels, [panel][C][9][16]): transformed they would be four
// times as large, 8.7 GB for SD 1.5. Making U costs about 55 cycles for 8 weights, a tile's products 18: 2-3 % at 128 tiles.
//
// The numbers: M (221 KB) and V of one point (61 KB at kc = 320) share L2, a panel of U (20 KB) and six rows of V L1; per
// member and cycle about 2 bytes of V and 1.3 of U come from L3. Deep layers have few tiles: U would be written to L3 and
// read once, so kc is small there (64) and U stays in L2.
//
// Same bits: a sum runs over blocks of kc, in order, and kc follows from the channels and the tiles of one sample.
#include "kernels/conv2d/pixel_strip_avx2.h"
#include "kernels/conv2d/winograd4_avx2.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

using namespace winograd4;

constexpr int64_t kRows = 6, kLanes = 16;  // a register tile: tiles of the picture × output channels
constexpr int64_t kMaxBlock = 132;         // tiles of a block
constexpr int64_t kSubGroups = 8;          // groups of up to kRows tiles that a sub-block has
constexpr int64_t kPanels = 2;             // of 16 output channels, taken together
constexpr int64_t kFewTiles = 16;          // of a sample: from here down U is kept in L2
constexpr int64_t kMaxKc = 320, kMaxKcFew = 64;
constexpr int64_t kMaxV = 12 << 20;  // bytes of transformed input
constexpr int64_t kStripTiles = 8, kStripPixels = kStripTiles * kTile + 2, kStripChannels = 32;
constexpr int64_t kTileSums = kPoints * kRows * kLanes;  // floats of M for one group and panel

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
// n cut into the fewest equal pieces of at most `limit`, each a multiple of `unit`.
constexpr int64_t even_block(int64_t n, int64_t limit, int64_t unit) {
  return round_up(ceil_div(n, ceil_div(n, limit)), unit);
}

struct Blocking {
  int64_t B, C, N;
  int64_t tiles_y, tiles_x, tiles;  // of a sample, of all
  int64_t panels;                   // of 16 output channels
  bool few;                         // tiles of a sample: U stays in L2
  int64_t kc, k_blocks;
  int64_t v_stride;      // floats from one row of V to the next: an odd number of cache lines
  int64_t u_point;       // floats from one point of U to the next: likewise
  int64_t block;         // tiles of a block
  int64_t groups, subs;  // of a block, at most
  int64_t chunk;         // k-blocks whose V exists at a time
  int64_t n_blocks;

  int64_t v_k_block() const { return groups * kPoints * kRows * v_stride; }  // floats
  int64_t u_panel() const { return kPoints * u_point; }
  int64_t m_sub() const { return kPanels * kSubGroups * kTileSums; }
  // How many sub-blocks' sums a member keeps at a time.
  int64_t m_kept(int team) const {
    if (k_blocks == 1) return 1;
    return chunk == k_blocks ? subs : ceil_div(n_blocks * subs, team);
  }
  int64_t shared_floats() const { return chunk * v_k_block(); }
  int64_t member_floats(int team) const {
    return kPanels * u_panel() + m_kept(team) * m_sub() + kWindow * kStripPixels * kStripChannels;
  }
};

Blocking blocking_of(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  Blocking b;
  b.B = call.out.shape[0];
  b.C = weight.shape[1];
  b.N = weight.shape[0];
  b.tiles_y = ceil_div(call.out.shape[1], kTile);
  b.tiles_x = ceil_div(call.out.shape[2], kTile);
  b.tiles = b.B * b.tiles_y * b.tiles_x;
  b.panels = ceil_div(b.N, kLanes);
  b.few = b.tiles_y * b.tiles_x <= kFewTiles;
  b.kc = even_block(b.C, b.few ? kMaxKcFew : kMaxKc, 8);
  b.k_blocks = ceil_div(b.C, b.kc);
  const int64_t lines = ceil_div(b.kc, 16);
  b.v_stride = (lines + (lines % 2 == 0 ? 1 : 2)) * 16;
  b.u_point = (b.kc + 1) * kLanes;
  b.block = even_block(b.tiles, b.few ? kSubGroups * kRows : kMaxBlock, 1);
  b.groups = ceil_div(b.block, kRows);
  b.subs = ceil_div(b.groups, kSubGroups);
  const int64_t fit = larger(kMaxV / (b.v_k_block() * int64_t(sizeof(float))), 1);
  b.chunk = b.k_blocks <= fit ? b.k_blocks : even_block(b.k_blocks, fit, 1);
  b.n_blocks = ceil_div(b.panels, kPanels);
  return b;
}

// --- the products -----------------------------------------------------------------------------------------------------

// What the next product tiles will read, to be fetched from L3 into L2 while one is computed: in each step of 8 channels one
// line of U and `v_lines` of V. The hardware's prefetchers do not follow: V comes in runs of 20 lines, U a line every six cycles.
struct Fetch {
  const char* u;
  const char* v;
  int64_t v_lines;
};

// m [R, 16] = (accumulate ? m : 0) + v [R, k] (rows `stride` floats apart) · u [k, 16]
template <int R>
void product_tile(const float* v, int64_t stride, const float* u, int64_t k, float* m, bool accumulate, Fetch fetch) {
  __m256 sum[R][2];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) sum[r][0] = sum[r][1] = _mm256_setzero_ps();
  const auto step = [&](const float* row) {
    const __m256 u0 = _mm256_load_ps(u), u1 = _mm256_load_ps(u + 8);
    u += kLanes;
    const float* row3 = row + 3 * stride;
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const __m256 x = _mm256_broadcast_ss(r < 3 ? row + r * stride : row3 + (r - 3) * stride);
      sum[r][0] = _mm256_fmadd_ps(x, u0, sum[r][0]);
      sum[r][1] = _mm256_fmadd_ps(x, u1, sum[r][1]);
    }
  };
  int64_t i = 0;
  for (; i + 8 <= k; i += 8, v += 8) {
    _mm_prefetch(fetch.u, _MM_HINT_T1);
    fetch.u += 64;
    for (int64_t line = 0; line < fetch.v_lines; ++line, fetch.v += 64) _mm_prefetch(fetch.v, _MM_HINT_T1);
#pragma GCC unroll 8
    for (int64_t c = 0; c < 8; ++c) step(v + c);
  }
  for (; i < k; ++i, ++v) step(v);
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      float* to = m + r * kLanes + 8 * h;
      _mm256_store_ps(to, accumulate ? _mm256_add_ps(_mm256_load_ps(to), sum[r][h]) : sum[r][h]);
    }
}

using ProductTile = void (*)(const float* v, int64_t stride, const float* u, int64_t k, float* m, bool accumulate,
                             Fetch fetch);
constexpr ProductTile kProductTiles[] = {nullptr,         product_tile<1>, product_tile<2>, product_tile<3>,
                                         product_tile<4>, product_tile<5>, product_tile<6>};

// --- one member's view of the work ------------------------------------------------------------------------------------

// Tiles [first, first + count) of all, in even groups: group g holds [count · g / groups, count · (g + 1) / groups) of them.
struct TileBlock {
  int64_t first, count, groups, subs;

  TileBlock(const Blocking& b, int64_t from)
      : first(from),
        count(smaller(b.block, b.tiles - from)),
        groups(ceil_div(count, kRows)),
        subs(ceil_div(groups, kSubGroups)) {}
  int64_t group_begin(int64_t g) const { return count * g / groups; }
  int64_t sub_begin(int64_t s) const { return groups * s / subs; }  // a group
};

struct Convolution {
  const KernelCall& call;
  const Blocking b;
  const pixel_strip::Picture picture;
  float *v, *u, *m, *strip;

  Convolution(const KernelCall& c, const Team& team) : call(c), b(blocking_of(c)), picture(pixel_strip::picture_of(c)) {
    v = static_cast<float*>(call.scratch);
    u = v + b.shared_floats() + team.index * b.member_floats(team.count);
    m = u + kPanels * b.u_panel();
    strip = m + b.m_kept(team.count) * b.m_sub();
  }

  void transform_inputs(const TileBlock& tiles, int64_t k_begin, int64_t k_end, const Team& team) const;
  template <typename W>
  void transform_weights(int64_t n_block, int64_t k_block) const;
  int64_t weight_row() const { return kTaps * kLanes * int64_t(dtype_size(call.in[Conv2dAttrs::kWeight].dtype)); }
  const char* weights_of(int64_t n_block, int64_t k_block) const;
  void multiply(const TileBlock& tiles, int64_t sub, const float* v_block, int64_t k, int64_t panels, bool accumulate,
                float* sums, const char* next) const;
  template <typename Out>
  void store(const TileBlock& tiles, int64_t sub, int64_t n_block, const float* sums) const;
  void run(const Team& team) const;
};

// V of k-blocks [k_begin, k_end): the team shares runs of tiles × strips of channels.
void Convolution::transform_inputs(const TileBlock& tiles, int64_t k_begin, int64_t k_end, const Team& team) const {
  const Conv2dAttrs& attrs = conv2d_attributes(call);
  const int64_t strips = ceil_div(b.kc, kStripChannels), work = (k_end - k_begin) * strips;
  // Runs of neighbours in a line of tiles, of at most kStripTiles.
  int64_t run_first[kMaxBlock], runs = 0;
  for (int64_t t = tiles.first; t < tiles.first + tiles.count; ++t)
    if (runs == 0 || t % b.tiles_x == 0 || t - run_first[runs - 1] == kStripTiles) run_first[runs++] = t;
  int64_t place[kMaxBlock];  // of each tile's row in V
  for (int64_t g = 0; g < tiles.groups; ++g)
    for (int64_t t = tiles.group_begin(g); t < tiles.group_begin(g + 1); ++t)
      place[t] = (g * kPoints * kRows + t - tiles.group_begin(g)) * b.v_stride;

  const auto [first, last] = team.range(runs * work);
  for (int64_t item = first; item < last; ++item) {
    const int64_t run = item / work, k_block = k_begin + item % work / strips;
    const int64_t c0 = item % strips * kStripChannels, begin = k_block * b.kc + c0;
    const int64_t n = smaller(smaller(kStripChannels, b.kc - c0), b.C - begin);
    if (n <= 0) continue;
    const int64_t t = run_first[run], count = (run + 1 < runs ? run_first[run + 1] : tiles.first + tiles.count) - t;
    const int64_t sample = t / (b.tiles_y * b.tiles_x), y = t / b.tiles_x % b.tiles_y, x = t % b.tiles_x;
    const int64_t pixels = count * kTile + 2;
    pixel_strip::fill<kStripPixels>(picture, sample, y * kTile - attrs.pad_top, x * kTile - attrs.pad_left, kWindow,
                                    pixels, begin, n, strip, kStripChannels);
    float* to = v + (k_block - k_begin) * b.v_k_block() + c0;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < n; c += 8)
        transform_input(strip + i * kTile * kStripChannels + c, pixels * kStripChannels, kStripChannels,
                        to + place[t + i - tiles.first] + c, kRows * b.v_stride);
  }
}

template <typename W>
void Convolution::transform_weights(int64_t n_block, int64_t k_block) const {
  const int64_t k = smaller(b.kc, b.C - k_block * b.kc);
  for (int64_t p = 0; p < smaller(kPanels, b.panels - n_block * kPanels); ++p) {
    const W* g = reinterpret_cast<const W*>(weights_of(n_block, k_block)) + p * b.C * kTaps * kLanes;
    float* to = u + p * b.u_panel();
    for (int64_t c = 0; c < k; ++c, g += kTaps * kLanes, to += kLanes)
      for (int64_t half = 0; half < kLanes; half += 8) transform_weight(g + half, kLanes, to + half, b.u_point);
  }
}

// The packed weights of a block, of the first of its panels.
const char* Convolution::weights_of(int64_t n_block, int64_t k_block) const {
  return static_cast<const char*>(call.packed) + (n_block * kPanels * b.C + k_block * b.kc) * weight_row();
}

// sums [panel][group][36][6][16] of a sub-block. Meanwhile weights are fetched that will be transformed next, if told so.
void Convolution::multiply(const TileBlock& tiles, int64_t sub, const float* v_block, int64_t k, int64_t panels,
                           bool accumulate, float* sums, const char* next) const {
  const int64_t next_panel = b.C * weight_row(), next_bytes = b.kc * weight_row();
  const int64_t g_begin = tiles.sub_begin(sub), groups = tiles.sub_begin(sub + 1) - g_begin;
  const int64_t v_lines = ceil_div(kRows * b.v_stride / 16, larger(k / 8, 1));
  for (int64_t point = 0; point < kPoints; ++point)
    for (int64_t p = 0; p < panels; ++p) {
      if (next)
        pixel_strip::prefetch_to_l2(next + p * next_panel + next_bytes * point / kPoints,
                                    ceil_div(next_bytes, kPoints));
      // The next panel of U, a part with each group; while the last panel is at work, the next point of each group's V.
      const bool last_panel = p + 1 == panels;
      const float* u_next = u + (last_panel ? (point + 1) * b.u_point : (p + 1) * b.u_panel() + point * b.u_point);
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t rows = tiles.group_begin(g_begin + g + 1) - tiles.group_begin(g_begin + g);
        const float* v_tile = v_block + ((g_begin + g) * kPoints + point) * kRows * b.v_stride;
        const Fetch fetch = {reinterpret_cast<const char*>(u_next + g * k / groups * kLanes),
                             reinterpret_cast<const char*>(v_tile + kRows * b.v_stride), last_panel ? v_lines : 0};
        kProductTiles[rows](v_tile, b.v_stride, u + p * b.u_panel() + point * b.u_point, k,
                            sums + (p * kSubGroups + g) * kTileSums + point * kRows * kLanes, accumulate, fetch);
      }
    }
}

template <typename T>
inline __m256 load_part(const T* p, int64_t n) {
  return n >= 8 ? simd::load(p) : simd::load_n(p, int(n));
}
template <typename T>
inline void store_part(T* p, __m256 v, int64_t n) {
  n >= 8 ? simd::store(p, v) : simd::store_n(p, v, int(n));
}

// Where a tile of the output lies.
struct TilePlace {
  int64_t sample, y, x;
};
inline TilePlace place_of(const Blocking& b, int64_t tile) {
  return {tile / (b.tiles_y * b.tiles_x), tile / b.tiles_x % b.tiles_y * kTile, tile % b.tiles_x * kTile};
}
inline int64_t offset_of(const TensorView& v, const TilePlace& at) {
  return at.sample * v.stride[0] + at.y * v.stride[1] + at.x * v.stride[2];
}

// Asks for `channels` channels, from n on, of a tile that will be read or written soon: the output lies in memory in pieces
// of 128 bytes that no hardware prefetcher foresees.
inline void prefetch_tile(const TensorView& v, const TilePlace& at, int64_t n, int64_t channels) {
  const int64_t element = int64_t(dtype_size(v.dtype));
  const char* first = v.as<char>() + (offset_of(v, at) + n) * element;
  for (int64_t i = 0; i < kTile; ++i)
    for (int64_t j = 0; j < kTile; ++j)
      for (int64_t c = 0; c < channels * element; c += 64)
        _mm_prefetch(first + (i * v.stride[1] + j * v.stride[2]) * element + c, _MM_HINT_T0);
}

// The output's transform and the epilogue (epilogue.h) for a sub-block.
template <typename Out>
void Convolution::store(const TileBlock& tiles, int64_t sub, int64_t n_block, const float* sums) const {
  const TensorView& out = call.out;
  const TensorView &bias = call.in[Conv2dAttrs::kBias], &row_bias = call.in[Conv2dAttrs::kRowBias],
                   &residual = call.in[Conv2dAttrs::kResidual];
  const Activation activation = conv2d_attributes(call).epilogue.activation;
  const int64_t height = out.shape[1], width = out.shape[2];
  const int64_t g_begin = tiles.sub_begin(sub), g_end = tiles.sub_begin(sub + 1);
  const int64_t n_begin = n_block * kPanels * kLanes, n_end = smaller(n_begin + kPanels * kLanes, b.N);
  for (int64_t g = g_begin; g < g_end; ++g)
    for (int64_t t = tiles.group_begin(g); t < tiles.group_begin(g + 1); ++t) {
      const TilePlace at = place_of(b, tiles.first + t), next = place_of(b, smaller(tiles.first + t + 1, b.tiles - 1));
      const int64_t lines = smaller(kTile, height - at.y), pixels = smaller(kTile, width - at.x);
      prefetch_tile(out, next, n_begin, n_end - n_begin);
      if (residual.present()) prefetch_tile(residual, next, n_begin, n_end - n_begin);
      for (int64_t n = n_begin; n < n_end; n += 8) {
        const int64_t lane = n - n_begin, part = b.N - n;
        const float* tile_sums = sums + (lane / kLanes * kSubGroups + g - g_begin) * kTileSums +
                                 (t - tiles.group_begin(g)) * kLanes + lane % kLanes;
        __m256 pixel[16];
        transform_output(tile_sums, kRows * kLanes, pixel);
        __m256 added = _mm256_setzero_ps();
        if (bias.present()) added = load_part(bias.as<float>() + n, part);
        if (row_bias.present())
          added = _mm256_add_ps(added, load_part(row_bias.as<float>() + at.sample * row_bias.stride[0] + n, part));
        Out* to = out.as<Out>() + offset_of(out, at) + n;
        const Out* plus = residual.present() ? residual.as<Out>() + offset_of(residual, at) + n : nullptr;
        for (int64_t i = 0; i < lines; ++i)
          for (int64_t j = 0; j < pixels; ++j) {
            __m256 value = simd::activate(activation, _mm256_add_ps(pixel[4 * i + j], added));
            if (plus)
              value = _mm256_add_ps(value, load_part(plus + i * residual.stride[1] + j * residual.stride[2], part));
            store_part(to + i * out.stride[1] + j * out.stride[2], value, part);
          }
      }
    }
}

void Convolution::run(const Team& team) const {
  const DType weight = call.in[Conv2dAttrs::kWeight].dtype;
  for (int64_t from = 0; from < b.tiles; from += b.block) {
    const TileBlock tiles(b, from);
    const auto [first, last] = team.range(b.n_blocks * tiles.subs);
    for (int64_t k_begin = 0; k_begin < b.k_blocks; k_begin += b.chunk) {
      const int64_t k_end = smaller(k_begin + b.chunk, b.k_blocks);
      transform_inputs(tiles, k_begin, k_end, team);
      team.sync();
      for (int64_t item = first; item < last;) {
        const int64_t n_block = item / tiles.subs, sub_begin = item % tiles.subs;
        const int64_t sub_end = smaller(sub_begin + last - item, tiles.subs);
        const int64_t panels = smaller(kPanels, b.panels - n_block * kPanels);
        for (int64_t k_block = k_begin; k_block < k_end; ++k_block) {
          if (weight == DType::bf16)
            transform_weights<bf16_t>(n_block, k_block);
          else if (weight == DType::f16)
            transform_weights<f16_t>(n_block, k_block);
          else
            transform_weights<float>(n_block, k_block);
          for (int64_t sub = sub_begin; sub < sub_end; ++sub) {
            const int64_t kept = b.k_blocks == 1 ? 0 : b.chunk == b.k_blocks ? sub : item - first + sub - sub_begin;
            float* sums = m + kept * b.m_sub();
            // The deep layers' weights come from memory, and so little is done with each that it must not be waited for.
            const bool ends = k_block + 1 == k_end;
            const bool fetch = b.few && sub + 1 == sub_end && !(ends && n_block + 1 == b.n_blocks);
            const char* next = fetch ? weights_of(n_block + ends, ends ? k_begin : k_block + 1) : nullptr;
            multiply(tiles, sub, v + (k_block - k_begin) * b.v_k_block(), smaller(b.kc, b.C - k_block * b.kc), panels,
                     k_block > 0, sums, next);
            if (k_block + 1 < b.k_blocks) continue;
            call.out.dtype == DType::bf16 ? store<bf16_t>(tiles, sub, n_block, sums)
                                          : store<float>(tiles, sub, n_block, sums);
          }
        }
        item += sub_end - sub_begin;
      }
      team.sync();  // V is about to be overwritten
    }
  }
}

// --- the kernel -------------------------------------------------------------------------------------------------------

const char* reject(const KernelCall& call) {
  const Conv2dAttrs& attrs = conv2d_attributes(call);
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (attrs.kernel != 3 || attrs.stride != 1) return "only 3×3 with stride 1";
  if (attrs.int8) return "products of int8 are asked for";
  if (attrs.epilogue.geglu) return "no geglu in the output transform";
  if (!is_activation_type(call.in[Conv2dAttrs::kX].dtype) || !is_activation_type(call.out.dtype) ||
      (x2.present() && !is_activation_type(x2.dtype)))
    return "x, x2 and out must be f32 or bf16";
  const TensorView& norm = conv2d_norm(call).coefficients;
  if (norm.present() && norm.dtype != DType::f32) return "the norm must be f32";
  if (!is_weight_type(call.in[Conv2dAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  return nullptr;
}

size_t scratch_bytes(const KernelCall& call, int team) {
  const Blocking b = blocking_of(call);
  return size_t(b.shared_floats() + team * b.member_floats(team)) * sizeof(float);
}

size_t weight_bytes(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  return size_t(ceil_div(weight.shape[0], kLanes) * weight.shape[1] * kTaps * kLanes) * dtype_size(weight.dtype);
}

// [panel][C][9][16] in the stored type; output channels beyond the last are zero.
template <typename W>
void pack_panels(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const int64_t N = weight.shape[0], C = weight.shape[1];
  const auto [first, last] = team.range(ceil_div(N, kLanes));
  for (int64_t panel = first; panel < last; ++panel) {
    W* to = static_cast<W*>(packed) + panel * C * kTaps * kLanes;
    memset(to, 0, size_t(C * kTaps * kLanes) * sizeof(W));
    for (int64_t lane = 0; lane < smaller(kLanes, N - panel * kLanes); ++lane) {
      int64_t n = panel * kLanes + lane;
      size_t part = 0;
      while (part + 1 < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
      const W* from = parts[part].as<W>() + n * C * kTaps;
      for (int64_t i = 0; i < C * kTaps; ++i) to[i * kLanes + lane] = from[i];
    }
  }
  team.sync();
}

void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const DType type = call.in[Conv2dAttrs::kWeight].dtype;
  if (type == DType::f32) return pack_panels<float>(call, parts, packed, team);
  pack_panels<bf16_t>(call, parts, packed, team);  // two bytes are copied, f16 or bf16
}

// By parts, each at the rate that it was measured to run at (see NOTES.md).
double cycles(const KernelCall& call) {
  const Blocking b = blocking_of(call);
  const double tiles = double(b.tiles_y * b.tiles_x), C = double(b.C), N = double(b.panels * kLanes);
  const double products = tiles * double(kPoints) * C * N / 16 / 0.85;
  const double inputs = tiles * C / 8 * 130, outputs = tiles * N / 8 * 110;
  const double weights = C * N / 8 * 60 * (tiles > double(kMaxBlock) ? tiles / double(kMaxBlock) : 1.0);
  return products + inputs + outputs + weights;
}

void launch(const KernelCall& call, const Team& team) { Convolution(call, team).run(team); }

}  // namespace

extern const KernelDef conv2d_avx2_winograd4, norm_conv2d_avx2_winograd4;
const KernelDef conv2d_avx2_winograd4 = {
    .op = OpKind::conv2d,
    .variant = "avx2_winograd4",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = "winograd_16",
    .packed_bytes = weight_bytes,
    .pack = pack,
    .launch = launch,
    .cycles = cycles,
    .inexact = true,
};
const KernelDef norm_conv2d_avx2_winograd4 = {
    .op = OpKind::norm_conv2d,
    .variant = "avx2_winograd4",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = "winograd_16",
    .packed_bytes = weight_bytes,
    .pack = pack,
    .launch = launch,
    .cycles = cycles,
    .inexact = true,
};

}  // namespace darkroom::kernels

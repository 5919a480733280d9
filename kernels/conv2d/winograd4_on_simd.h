// conv2d and norm_conv2d by Winograd's F(4×4, 3×3) on any instruction set: a quarter of the multiplications, in f32 (winograd4.h
// has the algorithm and its error). A register tile is kRows tiles of the picture × a panel of kPanel output channels.
//
//   for each block of tiles (up to kMaxBlock, of one sample, or several whole ones):   a crew's: the team's, or where there are many
//                                                                                      each member's own
//     for each chunk of channels:
//       V [kc-block][group][36][kRows][kc]   the input's transform, shared by the crew; a strip of pixels at a time in L1
//       for each kPanels panels:                              as members take them, or panels × sub-blocks
//         for each kc-block:
//           U [kPanels][36][kc][kPanel]      the weights' transform: made here, used for all tiles of the block, then forgotten
//           for each sub-block of kSubGroups groups:
//             M [kPanels][group][36][kRows][kPanel] += V · U     36 products by register tiles
//             after the last channel: the output's transform, epilogue, store
//
// Weights stay as small as they are stored ([panel][C][9][kPanel]): transformed they would be four
// times as large, 8.7 GB for SD 1.5. Making U costs about 55 cycles for 8 weights, a tile's products 18: 2-3 % at 128 tiles.
//
// The numbers, on AVX2: M (221 KB) and V of one point (61 KB at kc = 320) share L2, a panel of U (20 KB) and six rows of V L1;
// per member and cycle about 2 bytes of V and 1.3 of U come from L3. Deep layers have few tiles: U would be written to L3 and
// read once, so kc is small there (64) and U stays in L2.
//
// Moments of what is stored (slab_moments.h): a slab is a sub-block, where blocks are of one sample; else, of small pictures, a tile.
//
// Same bits: a sum runs over blocks of kc, in order, and kc follows from the channels and the tiles of one sample; so do slabs.
#pragma once

#include <cstring>
#include <utility>

#include "kernels/conv2d/pixel_strip.h"
#include "kernels/conv2d/winograd4_output.h"
#include "kernels/core/reject.h"

namespace darkroom::winograd4 {

// What an instruction set brings, a struct of its translation unit:
//   Vector, kLanes          f32 lanes, with + − · /
//   kRows, kPanel           the register tile: tiles of the picture × output channels
//   kMaxBlock               tiles of a block, at most
//   kSubGroups, kPanels     groups of up to kRows tiles and panels that a sub-block has
//   kMaxKc                  channels of a kc-block, at most
//   load(p), store(p, v)    a vector, of any activation or weight type; with n only the first n lanes (others read as zero)
//   set(x), fmadd(a, b, c), fnmadd(a, b, c), min(a, b), max(a, b), activate(activation, v)
//   low_bits_as_exponent(v) the lowest 9 bits of each lane moved to sign and exponent

inline constexpr int64_t kFewTiles = 16;      // of a sample: from here down U is kept in L2
inline constexpr int64_t kMaxKcFew = 64;      // by a small kc
inline constexpr int64_t kMaxV = 12 << 20;    // bytes of transformed input
inline constexpr int64_t kMaxOwnV = 6 << 20;  // and where each member has its own
inline constexpr int64_t kOwnBlocks = 8;      // that each has then at least
inline constexpr int64_t kStripTiles = 8, kStripPixels = kStripTiles * kTile + 2, kStripChannels = 32;

static constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }
static constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
// n cut into the fewest equal pieces of at most `limit`, each a multiple of `unit`.
static constexpr int64_t even_block(int64_t n, int64_t limit, int64_t unit) {
  return round_up(ceil_div(n, ceil_div(n, limit)), unit);
}

template <typename Simd>
struct Blocking {
  static constexpr int64_t kRows = Simd::kRows, kPanel = Simd::kPanel, kPanels = Simd::kPanels;
  static constexpr int64_t kSubGroups = Simd::kSubGroups;
  static constexpr int64_t kTileSums = kPoints * kRows * kPanel;  // floats of M for one group and panel

  int64_t B, C, N;
  int64_t tiles_y, tiles_x;  // of a sample
  int64_t of_sample, tiles;  // both, and of all samples
  int64_t panels;            // of kPanel output channels
  bool few;                  // tiles of a sample: U stays in L2
  int64_t kc, k_blocks;
  int64_t v_stride;       // floats from one row of V to the next: an odd number of cache lines
  int64_t u_point;        // floats from one point of U to the next: likewise
  int64_t block;          // tiles of a block, at most
  int64_t blocks;         // of all samples
  int64_t sample_blocks;  // of one; 0: a block is several samples
  int64_t groups, subs;   // of a block, at most
  int64_t chunk;          // k-blocks whose V exists at a time
  int64_t n_blocks;

  int64_t v_k_block() const { return groups * kPoints * kRows * v_stride; }  // floats
  int64_t u_panel() const { return kPoints * u_point; }
  int64_t m_sub() const { return kPanels * kSubGroups * kTileSums; }
  // How many sub-blocks' sums a member keeps at a time; those of the whole block are the team's where V does not exist at once.
  int64_t m_kept() const { return k_blocks == 1 ? 1 : chunk == k_blocks ? subs : 0; }
  int64_t team_m_floats() const { return chunk == k_blocks ? 0 : n_blocks * subs * m_sub(); }
  int64_t v_floats() const { return chunk * v_k_block(); }
  // Whether each member of a team computes whole blocks of its own: none waits for another.
  bool apart(int team) const {
    return team > 1 && chunk == k_blocks && v_floats() * int64_t(sizeof(float)) <= kMaxOwnV &&
           blocks >= kOwnBlocks * team;
  }
  // Slabs of a sample.
  int64_t slabs() const {
    if (sample_blocks == 0) return of_sample;
    const int64_t last_groups = ceil_div(of_sample - (sample_blocks - 1) * block, kRows);
    return (sample_blocks - 1) * subs + ceil_div(last_groups, kSubGroups);
  }
  int64_t member_floats() const {
    return kPanels * u_panel() + m_kept() * m_sub() + kWindow * kStripPixels * kStripChannels;
  }
  int64_t team_floats(int team) const { return (apart(team) ? team : 1) * v_floats() + team_m_floats(); }
  int64_t floats(int team) const { return team_floats(team) + team * member_floats(); }
};

template <typename Simd>
static Blocking<Simd> blocking_of(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  Blocking<Simd> b;
  b.B = call.out.shape[0];
  b.C = weight.shape[1];
  b.N = weight.shape[0];
  b.tiles_y = ceil_div(call.out.shape[1], kTile);
  b.tiles_x = ceil_div(call.out.shape[2], kTile);
  b.of_sample = b.tiles_y * b.tiles_x;
  b.tiles = b.B * b.of_sample;
  b.panels = ceil_div(b.N, Simd::kPanel);
  b.few = b.of_sample <= kFewTiles;
  b.kc = even_block(b.C, b.few ? kMaxKcFew : Simd::kMaxKc, Simd::kLanes);
  b.k_blocks = ceil_div(b.C, b.kc);
  const int64_t lines = ceil_div(b.kc, 16);
  b.v_stride = (lines + (lines % 2 == 0 ? 1 : 2)) * 16;
  b.u_point = (b.kc + 1) * Simd::kPanel;
  const int64_t limit = b.few ? Simd::kSubGroups * Simd::kRows : Simd::kMaxBlock;
  if (b.of_sample > limit) {
    b.block = even_block(b.of_sample, limit, 1);
    b.sample_blocks = ceil_div(b.of_sample, b.block);
    b.blocks = b.B * b.sample_blocks;
  } else {
    b.block = even_block(b.B, limit / b.of_sample, 1) * b.of_sample;
    b.sample_blocks = 0;
    b.blocks = ceil_div(b.tiles, b.block);
  }
  b.groups = ceil_div(b.block, Simd::kRows);
  b.subs = ceil_div(b.groups, Simd::kSubGroups);
  const int64_t fit = larger(kMaxV / (b.v_k_block() * int64_t(sizeof(float))), 1);
  b.chunk = b.k_blocks <= fit ? b.k_blocks : even_block(b.k_blocks, fit, 1);
  b.n_blocks = ceil_div(b.panels, Simd::kPanels);
  return b;
}

// --- the products -----------------------------------------------------------------------------------------------------

// What the next product tiles will read, to be fetched from L3 into L2 while one is computed: in each step of 8 channels a few
// lines of U and `v_lines` of V. The hardware's prefetchers do not follow: V comes in runs of 20 lines, U a line every six cycles.
struct Fetch {
  const char* u;
  const char* v;
  int64_t v_lines;
};

// m [R, kPanel] = (accumulate ? m : 0) + v [R, k] (rows `stride` floats apart) · u [k, kPanel]
template <typename Simd, int R>
static void product_tile(const float* v, int64_t stride, const float* u, int64_t k, float* m, bool accumulate,
                         Fetch fetch) {
  using Vector = typename Simd::Vector;
  constexpr int kVectors = int(Simd::kPanel / Simd::kLanes), kBases = (R + 2) / 3;
  constexpr int64_t kULines = 8 * Simd::kPanel / 16 / Simd::kSubGroups;
  Vector sum[R][kVectors];
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < kVectors; ++h) sum[r][h] = Simd::set(0.0f);
  const float* base[kBases];  // of three rows each, which x86 can address from one register
#pragma GCC unroll 5
  for (int i = 0; i < kBases; ++i) base[i] = v + 3 * i * stride;
  const auto step = [&](int64_t c) {
    Vector w[kVectors];
#pragma GCC unroll 2
    for (int h = 0; h < kVectors; ++h) w[h] = Simd::load(u + h * Simd::kLanes);
    u += Simd::kPanel;
#pragma GCC unroll 14
    for (int r = 0; r < R; ++r) {
      const float* const at = base[r / 3] + (r % 3 * stride + c);
      if (Simd::kRowsFromMemory > 0 && r % 3 == 0) {  // has no index
#pragma GCC unroll 2
        for (int h = 0; h < kVectors; ++h) sum[r][h] = Simd::fmadd_from(at, w[h], sum[r][h]);
        continue;
      }
      const Vector x = Simd::set(*at);
#pragma GCC unroll 2
      for (int h = 0; h < kVectors; ++h) sum[r][h] = Simd::fmadd(x, w[h], sum[r][h]);
    }
  };
  const auto advance = [&](int64_t channels) {
#pragma GCC unroll 5
    for (int i = 0; i < kBases; ++i) base[i] += channels;
  };
  int64_t i = 0;
  for (; i + 8 <= k; i += 8, advance(8)) {
    for (int64_t line = 0; line < kULines; ++line, fetch.u += 64) _mm_prefetch(fetch.u, _MM_HINT_T1);
    for (int64_t line = 0; line < fetch.v_lines; ++line, fetch.v += 64) _mm_prefetch(fetch.v, _MM_HINT_T1);
#pragma GCC unroll 8
    for (int64_t c = 0; c < 8; ++c) step(c);
  }
  for (; i < k; ++i, advance(1)) step(0);
#pragma GCC unroll 14
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int h = 0; h < kVectors; ++h) {
      float* to = m + r * Simd::kPanel + Simd::kLanes * h;
      Simd::store(to, accumulate ? Simd::load(to) + sum[r][h] : sum[r][h]);
    }
}

using ProductTile = void (*)(const float* v, int64_t stride, const float* u, int64_t k, float* m, bool accumulate,
                             Fetch fetch);
template <typename Simd, int... R>
static ProductTile product_tile_of(int64_t rows, std::integer_sequence<int, R...>) {
  static constexpr ProductTile kByRows[] = {product_tile<Simd, R + 1>...};
  return kByRows[rows - 1];
}

// --- one member's view of the work ------------------------------------------------------------------------------------

// A block: tiles [first, first + count) of all, in even groups: group g holds [count · g / groups, count · (g + 1) / groups) of them.
template <typename Simd>
struct TileBlock {
  int64_t first, count, groups, subs;
  int64_t slab;  // of its first sub-block in the sample; -1: each tile is one

  TileBlock(const Blocking<Simd>& b, int64_t block) {
    const int64_t of_sample = b.sample_blocks > 0 ? block % b.sample_blocks : 0;
    first = b.sample_blocks > 0 ? block / b.sample_blocks * b.of_sample + of_sample * b.block : block * b.block;
    const int64_t end = b.sample_blocks > 0 ? (block / b.sample_blocks + 1) * b.of_sample : b.tiles;
    count = smaller(b.block, end - first);
    groups = ceil_div(count, Simd::kRows);
    subs = ceil_div(groups, Simd::kSubGroups);
    slab = b.sample_blocks > 0 ? of_sample * b.subs : -1;
  }
  int64_t group_begin(int64_t g) const { return count * g / groups; }
  int64_t sub_begin(int64_t s) const { return groups * s / subs; }  // a group
};

template <typename Simd>
struct Convolution {
  static constexpr int64_t kLanes = Simd::kLanes, kRows = Simd::kRows, kPanel = Simd::kPanel, kPanels = Simd::kPanels;
  static constexpr int64_t kSubGroups = Simd::kSubGroups, kMaxBlock = Simd::kMaxBlock;
  static constexpr int64_t kTileSums = Blocking<Simd>::kTileSums;
  using Vector = typename Simd::Vector;
  using Tiles = TileBlock<Simd>;

  const KernelCall& call;
  const Blocking<Simd> b;
  const pixel_strip::Picture picture;
  float *v, *u, *m, *strip, *team_m;

  Convolution(const KernelCall& c, const Team& team)
      : call(c), b(blocking_of<Simd>(c)), picture(pixel_strip::picture_of(c)) {
    float* all = static_cast<float*>(call.scratch);
    v = all + (b.apart(team.count) ? team.index * b.v_floats() : 0);
    u = all + b.team_floats(team.count) + team.index * b.member_floats();
    m = u + kPanels * b.u_panel();
    team_m = v + b.v_floats();
    strip = m + b.m_kept() * b.m_sub();
  }

  void transform_inputs(const Tiles& tiles, int64_t k_begin, int64_t k_end, const Team& crew) const;
  template <typename W>
  void transform_weights(int64_t n_block, int64_t k_block) const;
  int64_t weight_row() const { return kTaps * kPanel * int64_t(dtype_size(call.in[Conv2dAttrs::kWeight].dtype)); }
  const char* weights_of(int64_t n_block, int64_t k_block) const;
  void multiply(const Tiles& tiles, int64_t sub, const float* v_block, int64_t k, int64_t panels, bool accumulate,
                float* sums, const char* next) const;
  template <typename Out, bool kMoments>
  void store(const Tiles& tiles, int64_t sub, int64_t n_block, const float* sums) const;
  void store(const Tiles& tiles, int64_t sub, int64_t n_block, const float* sums) const;
  void compute(const Tiles& tiles, int64_t n_block, int64_t first_sub, int64_t subs, int64_t k_begin) const;
  void run_block(const Tiles& tiles, const Team& crew) const;
  void run(const Team& team) const;
};

// V of k-blocks [k_begin, k_end): the crew shares runs of tiles × strips of channels.
template <typename Simd>
void Convolution<Simd>::transform_inputs(const Tiles& tiles, int64_t k_begin, int64_t k_end, const Team& crew) const {
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

  const auto transform_strip = [&](int64_t item) {
    const int64_t run = item / work, k_block = k_begin + item % work / strips;
    const int64_t c0 = item % strips * kStripChannels, begin = k_block * b.kc + c0;
    const int64_t n = smaller(smaller(kStripChannels, b.kc - c0), b.C - begin);
    if (n <= 0) return;
    const int64_t t = run_first[run], count = (run + 1 < runs ? run_first[run + 1] : tiles.first + tiles.count) - t;
    const int64_t sample = t / (b.tiles_y * b.tiles_x), y = t / b.tiles_x % b.tiles_y, x = t % b.tiles_x;
    const int64_t pixels = count * kTile + 2;
    pixel_strip::fill<Simd, kStripPixels>(picture, sample, y * kTile - attrs.pad_top, x * kTile - attrs.pad_left,
                                          kWindow, pixels, begin, n, strip, kStripChannels);
    float* to = v + (k_block - k_begin) * b.v_k_block() + c0;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < n; c += kLanes)
        transform_input<Simd>(strip + i * kTile * kStripChannels + c, pixels * kStripChannels, kStripChannels,
                              to + place[t + i - tiles.first] + c, kRows * b.v_stride);
  };
  constexpr int64_t kStrips = 4;  // at a time
  const int64_t total = runs * work;
  Items items(crew, ceil_div(total, kStrips));
  for (int64_t i; (i = items.take() * kStrips) < total;)
    for (int64_t item = i; item < smaller(i + kStrips, total); ++item) transform_strip(item);
}

template <typename Simd>
template <typename W>
void Convolution<Simd>::transform_weights(int64_t n_block, int64_t k_block) const {
  const int64_t k = smaller(b.kc, b.C - k_block * b.kc);
  for (int64_t p = 0; p < smaller(kPanels, b.panels - n_block * kPanels); ++p) {
    const W* g = reinterpret_cast<const W*>(weights_of(n_block, k_block)) + p * b.C * kTaps * kPanel;
    float* to = u + p * b.u_panel();
    for (int64_t c = 0; c < k; ++c, g += kTaps * kPanel, to += kPanel)
      for (int64_t part = 0; part < kPanel; part += kLanes)
        transform_weight<Simd>(g + part, kPanel, to + part, b.u_point);
  }
}

// The packed weights of a block, of the first of its panels.
template <typename Simd>
const char* Convolution<Simd>::weights_of(int64_t n_block, int64_t k_block) const {
  return static_cast<const char*>(call.packed) + (n_block * kPanels * b.C + k_block * b.kc) * weight_row();
}

// sums [panel][group][36][kRows][kPanel] of a sub-block. Meanwhile weights are fetched that will be transformed next, if told so.
template <typename Simd>
void Convolution<Simd>::multiply(const Tiles& tiles, int64_t sub, const float* v_block, int64_t k, int64_t panels,
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
        const Fetch fetch = {reinterpret_cast<const char*>(u_next + g * k / groups * kPanel),
                             reinterpret_cast<const char*>(v_tile + kRows * b.v_stride), last_panel ? v_lines : 0};
        product_tile_of<Simd>(rows, std::make_integer_sequence<int, int(kRows)>())(
            v_tile, b.v_stride, u + p * b.u_panel() + point * b.u_point, k,
            sums + (p * kSubGroups + g) * kTileSums + point * kRows * kPanel, accumulate, fetch);
      }
    }
}

template <typename Simd>
static inline TilePlace place_of(const Blocking<Simd>& b, int64_t tile) {
  return {tile / (b.tiles_y * b.tiles_x), tile / b.tiles_x % b.tiles_y * kTile, tile % b.tiles_x * kTile};
}

// The output's transform and the epilogue (epilogue.h) for a sub-block.
template <typename Simd>
template <typename Out, bool kMoments>
void Convolution<Simd>::store(const Tiles& tiles, int64_t sub, int64_t n_block, const float* sums) const {
  const TensorView& out = call.out;
  const TensorView &bias = call.in[Conv2dAttrs::kBias], &row_bias = call.in[Conv2dAttrs::kRowBias],
                   &residual = call.in[Conv2dAttrs::kResidual];
  const Activation activation = conv2d_attributes(call).epilogue.activation;
  const int64_t height = out.shape[1], width = out.shape[2];
  const int64_t g_begin = tiles.sub_begin(sub), g_end = tiles.sub_begin(sub + 1);
  const int64_t n_begin = n_block * kPanels * kPanel, n_end = smaller(n_begin + kPanels * kPanel, b.N);
  slab_moments::Slab<Simd, kPanels * kPanel> slab;
  if (kMoments) slab.begin();
  for (int64_t g = g_begin; g < g_end; ++g)
    for (int64_t t = tiles.group_begin(g); t < tiles.group_begin(g + 1); ++t) {
      const TilePlace at = place_of(b, tiles.first + t), next = place_of(b, smaller(tiles.first + t + 1, b.tiles - 1));
      const int64_t lines = smaller(kTile, height - at.y), pixels = smaller(kTile, width - at.x);
      prefetch_tile(out, next, n_begin, n_end - n_begin);
      if (residual.present()) prefetch_tile(residual, next, n_begin, n_end - n_begin);
      if (kMoments) slab.begin_piece(lines * pixels);
      for (int64_t n = n_begin; n < n_end; n += kLanes) {
        const int64_t lane = n - n_begin, part = b.N - n;
        const float* tile_sums = sums + (lane / kPanel * kSubGroups + g - g_begin) * kTileSums +
                                 (t - tiles.group_begin(g)) * kPanel + lane % kPanel;
        Vector added = Simd::set(0.0f);
        if (bias.present()) added = Simd::load(bias.as<float>() + n, part);
        if (row_bias.present())
          added = added + Simd::load(row_bias.as<float>() + at.sample * row_bias.stride[0] + n, part);
        const TileMemory<Out> to(out, at, n);
        const TileMemory<const Out> plus(residual, at, n);
        const bool whole = lines == kTile && pixels == kTile && activation == Activation::none;
        const auto store_part =
            whole ? store_vector<Simd, kMoments, true, Out> : store_vector<Simd, kMoments, false, Out>;
        const auto piece = store_part(tile_sums, kRows * kPanel, added, activation, lines, pixels, to, plus, part);
        if (kMoments) slab.add(lane, piece);
      }
      const bool slab_ends = tiles.slab < 0 || t + 1 == tiles.group_begin(g_end);
      if (!kMoments || !slab_ends) continue;
      slab.write(call.moments, at.sample, tiles.slab < 0 ? (tiles.first + t) % b.of_sample : tiles.slab + sub, n_begin);
      slab.begin();
    }
}

template <typename Simd>
void Convolution<Simd>::store(const Tiles& tiles, int64_t sub, int64_t n_block, const float* sums) const {
  const bool narrow = call.out.dtype == DType::bf16;
  if (call.moments.present())
    narrow ? store<bf16_t, true>(tiles, sub, n_block, sums) : store<float, true>(tiles, sub, n_block, sums);
  else
    narrow ? store<bf16_t, false>(tiles, sub, n_block, sums) : store<float, false>(tiles, sub, n_block, sums);
}

// `subs` sub-blocks of a block of panels, from the chunk of k-blocks from k_begin on, whose V exists.
template <typename Simd>
void Convolution<Simd>::compute(const Tiles& tiles, int64_t n_block, int64_t first_sub, int64_t subs,
                                int64_t k_begin) const {
  const DType weight = call.in[Conv2dAttrs::kWeight].dtype;
  const int64_t panels = smaller(kPanels, b.panels - n_block * kPanels), k_end = smaller(k_begin + b.chunk, b.k_blocks);
  for (int64_t k_block = k_begin; k_block < k_end; ++k_block) {
    if (weight == DType::bf16)
      transform_weights<bf16_t>(n_block, k_block);
    else if (weight == DType::f16)
      transform_weights<f16_t>(n_block, k_block);
    else
      transform_weights<float>(n_block, k_block);
    for (int64_t sub = first_sub; sub < first_sub + subs; ++sub) {
      float* sums = m + (b.k_blocks == 1 ? 0 : sub - first_sub) * b.m_sub();
      if (b.chunk < b.k_blocks) sums = team_m + (n_block * b.subs + sub) * b.m_sub();
      // The deep layers' weights come from memory, and so little is done with each that it must not be waited for.
      const bool ends = k_block + 1 == k_end;
      const bool fetch = b.few && sub + 1 == first_sub + subs && !(ends && n_block + 1 == b.n_blocks);
      const char* next = fetch ? weights_of(n_block + ends, ends ? k_begin : k_block + 1) : nullptr;
      multiply(tiles, sub, v + (k_block - k_begin) * b.v_k_block(), smaller(b.kc, b.C - k_block * b.kc), panels,
               k_block > 0, sums, next);
      if (k_block + 1 == b.k_blocks) store(tiles, sub, n_block, sums);
    }
  }
}

template <typename Simd>
void Convolution<Simd>::run_block(const Tiles& tiles, const Team& crew) const {
  // Whole blocks of panels, so that their U is made once; where these are few, parts of them.
  const int64_t parts = crew.count == 1 || b.n_blocks >= 4 * crew.count ? 1 : tiles.subs, subs = tiles.subs / parts;
  for (int64_t k_begin = 0; k_begin < b.k_blocks; k_begin += b.chunk) {
    transform_inputs(tiles, k_begin, smaller(k_begin + b.chunk, b.k_blocks), crew);
    crew.sync();
    Items items(crew, b.n_blocks * parts);
    for (int64_t item; (item = items.take()) < b.n_blocks * parts;)
      compute(tiles, item / parts, item % parts * subs, subs, k_begin);
    crew.sync();  // V is about to be overwritten
  }
}

template <typename Simd>
void Convolution<Simd>::run(const Team& team) const {
  if (!b.apart(team.count)) {
    for (int64_t block = 0; block < b.blocks; ++block) run_block(Tiles(b, block), team);
    return;
  }
  Items own(team, b.blocks);
  for (int64_t block; (block = own.take()) < b.blocks;) run_block(Tiles(b, block), Team{});
}

// --- the kernel -------------------------------------------------------------------------------------------------------

static const char* reject(const KernelCall& call) {
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

template <typename Simd>
static size_t scratch_bytes(const KernelCall& call, int team) {
  const Blocking<Simd> b = blocking_of<Simd>(call);
  return size_t(b.floats(team)) * sizeof(float);
}

template <typename Simd>
static int64_t moments_slabs(const KernelCall& call) {
  return blocking_of<Simd>(call).slabs();
}

template <typename Simd>
static size_t weight_bytes(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  return size_t(ceil_div(weight.shape[0], Simd::kPanel) * weight.shape[1] * kTaps * Simd::kPanel) *
         dtype_size(weight.dtype);
}

// [panel][C][9][kPanel] in the stored type; output channels beyond the last are zero.
template <typename Simd, typename W>
static void pack_panels(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  constexpr int64_t kPanel = Simd::kPanel;
  const int64_t N = weight.shape[0], C = weight.shape[1];
  const auto [first, last] = team.range(ceil_div(N, kPanel));
  for (int64_t panel = first; panel < last; ++panel) {
    W* to = static_cast<W*>(packed) + panel * C * kTaps * kPanel;
    memset(to, 0, size_t(C * kTaps * kPanel) * sizeof(W));
    for (int64_t lane = 0; lane < smaller(kPanel, N - panel * kPanel); ++lane) {
      int64_t n = panel * kPanel + lane;
      size_t part = 0;
      while (part + 1 < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
      const W* from = parts[part].as<W>() + n * C * kTaps;
      for (int64_t i = 0; i < C * kTaps; ++i) to[i * kPanel + lane] = from[i];
    }
  }
  team.sync();
}

template <typename Simd>
static void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const DType type = call.in[Conv2dAttrs::kWeight].dtype;
  if (type == DType::f32) return pack_panels<Simd, float>(call, parts, packed, team);
  pack_panels<Simd, bf16_t>(call, parts, packed, team);  // two bytes are copied, f16 or bf16
}

// By parts, each at a rate of its own.
struct Rates {
  double macs;           // products a cycle
  double input, output;  // cycles of a tile's transform for one vector of channels
  double weight;         // cycles of the transform of one vector of weights
};

template <typename Simd>
static double cycles(const KernelCall& call, const Rates& rates) {
  const Blocking<Simd> b = blocking_of<Simd>(call);
  constexpr double kLanes = double(Simd::kLanes), kMaxBlock = double(Simd::kMaxBlock);
  const double tiles = double(b.tiles_y * b.tiles_x), N = double(b.panels * Simd::kPanel);
  const double C = double(b.k_blocks * b.kc);  // of few channels whole vectors are computed
  const double products = tiles * double(kPoints) * C * N / rates.macs;
  const double inputs = tiles * C / kLanes * rates.input, outputs = tiles * N / kLanes * rates.output;
  const double weights = C * N / kLanes * rates.weight * (tiles > kMaxBlock ? tiles / kMaxBlock : 1.0);
  return products + inputs + outputs + weights;
}

template <typename Simd>
static void launch(const KernelCall& call, const Team& team) {
  Convolution<Simd>(call, team).run(team);
}

}  // namespace darkroom::winograd4

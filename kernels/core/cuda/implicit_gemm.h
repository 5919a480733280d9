// Gemm and convolution as one thing: out[m, n] = epilogue( Σ_k A[m, k] · W[n, k] ), A gathered from pictures while it is loaded.
// What the cores (tensor cores for 16-bit types, FMA for the rest) share: the call in numbers, the order of K, packed weights,
// and the epilogue.
//
//   rows       m = (sample, y, x) of the output. A plain matrix is a picture for a 1×1 convolution.
//   K          runs over (tap, source, channel); each source's channels are padded with zeros to whole blocks of `block`,
//              so that a block of K has one tap and one source and the gather computes addresses once for a block.
//   weights    [N padded to 128][K] as packed by pack_rows(). With GEGLU, sixteen rows hold eight values and their eight gates,
//              so that both meet in one warp's tile.
//   phases     of a sub-pixel convolution: four GEMMs over the same rows, with weights [4][N][K]; each writes every second pixel
//              of every second line.
//   split K    each of `splits` grids of blocks takes a run of K blocks; their f32 sums go to scratch, and a second kernel adds
//              them in order and applies the epilogue.
//   moments    of what a convolution stores (moments.h): forms of the kernels of their own, the others carry nothing of them.
#pragma once

#include <type_traits>

#include "kernels/core/cuda/moments.h"
#include "kernels/core/cuda/rows.h"
#include "kernels/core/gemm_call.h"

namespace darkroom::cuda {

// What happens to a sum on its way out: see kernels/core/epilogue.h. One of out_f32, out_16 is there; residual is of its type.
template <typename T>
struct EpilogueParams {
  Global<const float> bias, row_bias, residual_f32;
  Global<const T> residual_16;
  Global<float> out_f32;
  Global<T> out_16;
  RowMap out_rows, residual_rows;
  int64_t row_bias_stride;
  int64_t phase_stride[2];  // of the output, down and right
  uint32_t rows, rows_of_sample;
  uint32_t columns;  // of the weight, before GEGLU halves them
  Activation activation;
  bool geglu, vectors;  // vectors: four outputs, and what is added to them, may be moved at once
  MomentsParams moments;
};

struct GatherParams {
  int64_t stride[2][3];              // of both sources: sample, line, pixel
  uint32_t channels[2], blocks[2];   // of each source; blocks: of K, for one tap
  uint32_t height, width;            // as stored
  uint32_t seen_height, seen_width;  // as the convolution sees it: enlarged, where it is
  uint32_t out_height, out_width;
  int32_t kernel, stride_y_x, pad_top, pad_left;
};

// A: of the sources; W: of the weight; O: of the output and residual, where they are not f32.
template <typename A, typename W, typename O>
struct GemmParams {
  Global<const A> source[2];
  Global<const W> weight;
  Global<float> partial;  // [splits][phases][rows][padded columns]; null where K is not split
  int64_t depth;          // padded K: a row of the weight
  uint32_t padded_columns, k_blocks, k_blocks_of_split, splits, phases;
  GatherParams gather;
  EpilogueParams<O> epilogue;
};

// --- device: the gather -----------------------------------------------------------------------------------------------

// One row of the output, as the gather needs it.
struct OutputPixel {
  int32_t y, x;     // of the window's corner in the picture as the convolution sees it
  uint32_t sample;  // ~0u: beyond the tile's last row
};
DARKROOM_DEVICE OutputPixel output_pixel(const GatherParams& g, uint32_t row, uint32_t end) {
  if (row >= end) return {0, 0, ~0u};
  const uint32_t line = row / g.out_width;
  return {int32_t(line % g.out_height) * g.stride_y_x - g.pad_top,
          int32_t(row % g.out_width) * g.stride_y_x - g.pad_left, line / g.out_height};
}

// Where the blocks of K lie: a tap, a source of it, the first channel.
struct KPosition {
  int32_t tap_y, tap_x;
  uint32_t source, block;
};
DARKROOM_DEVICE KPosition k_position(const GatherParams& g, uint32_t k_block) {
  const uint32_t of_tap = g.blocks[0] + g.blocks[1], tap = k_block / of_tap, within = k_block % of_tap;
  const uint32_t source = within >= g.blocks[0] ? 1 : 0;
  return {int32_t(tap) / g.kernel, int32_t(tap) % g.kernel, source, source ? within - g.blocks[0] : within};
}
DARKROOM_DEVICE void advance(KPosition& k, const GatherParams& g) {
  if (++k.block < g.blocks[k.source]) return;
  k.block = 0;
  if (k.source == 0 && g.blocks[1] > 0) {
    k.source = 1;
    return;
  }
  k.source = 0;
  if (++k.tap_x < g.kernel) return;
  k.tap_x = 0;
  ++k.tap_y;
}
// Element offset of the pixel under the tap, or −1: outside of the picture.
DARKROOM_DEVICE int64_t gathered_pixel(const GatherParams& g, const OutputPixel& at, const KPosition& k) {
  uint32_t y = uint32_t(at.y + k.tap_y), x = uint32_t(at.x + k.tap_x);  // negative: huge
  if (at.sample == ~0u || y >= g.seen_height || x >= g.seen_width) return -1;
  if (g.seen_height != g.height) y = y * g.height / g.seen_height;
  if (g.seen_width != g.width) x = x * g.width / g.seen_width;
  const int64_t* stride = g.stride[k.source];
  return at.sample * stride[0] + y * stride[1] + x * stride[2];
}

// --- device: the epilogue ---------------------------------------------------------------------------------------------

// Adds the biases of columns n … n + 3, of which `left` exist.
template <typename T>
DARKROOM_DEVICE void add_biases(float (&v)[4], const EpilogueParams<T>& e, uint32_t sample, uint32_t n, uint32_t left) {
  float b[4];
  if (e.bias != nullptr) {
    load_run<float>(b, e.bias + n, e.vectors, left);
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) v[i] += b[i];
  }
  if (e.row_bias != nullptr) {
    load_run<float>(b, e.row_bias + (sample * e.row_bias_stride + n), e.vectors, left);
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) v[i] += b[i];
  }
}

// Finishes and stores outputs n … n + 3 of a row before `end`: v their sums; with GEGLU, gate those of their gates. Column sums get what
// was stored.
template <typename T, typename Sums>
DARKROOM_DEVICE void finish4(const EpilogueParams<T>& e, uint32_t phase, uint32_t row, uint32_t end, uint32_t n,
                             float (&v)[4], float (&gate)[4], Sums& sums) {
  const uint32_t outputs = e.geglu ? e.columns / 2 : e.columns, sample = row / e.rows_of_sample;
  if (row >= end || n >= outputs) return;
  const uint32_t left = outputs - n;
  const int64_t out =
      row_offset(e.out_rows, row) + (phase / 2) * e.phase_stride[0] + (phase % 2) * e.phase_stride[1] + n;
  add_biases(v, e, sample, n, left);
  if (e.geglu) {
    add_biases(gate, e, sample, n + outputs, left);
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) v[i] *= gelu(gate[i]);
  } else {
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) v[i] = activate(e.activation, v[i]);
  }
  if (e.residual_f32 != nullptr || e.residual_16 != nullptr) {
    const int64_t residual = row_offset(e.residual_rows, row) + n;
    float r[4];
    if (e.residual_f32 != nullptr)
      load_run<float>(r, e.residual_f32 + residual, e.vectors, left);
    else
      load_run<T>(r, e.residual_16 + residual, e.vectors, left);
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) v[i] += r[i];
  }
  if (e.out_f32 != nullptr)
    store_run<float>(e.out_f32 + out, v, e.vectors, left);
  else
    store_run<T>(e.out_16 + out, v, e.vectors, left);
  if constexpr (Sums::kWanted) {
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i)
      if (e.out_f32 == nullptr) v[i] = widen(narrow<T>(v[i]));
    add_row(sums, v);
  }
}

// blockIdx.z counts [splits][phases].
template <typename Params>
DARKROOM_DEVICE uint32_t phase_of(const Params& p) {
  return blockIdx.z % p.phases;
}

// The floats between rows of a slice of sums in shared memory: 8 more, so that what a warp's fragments write spreads.
template <int kColumns>
inline constexpr int kSlicePitch = kColumns + 8;

// A warp takes kRows × kColumns sums, of rows `row` … and packed columns `column` …, from shared memory (of its own; written
// before a sync_warp) to their place: the output, or its split's part of `partial`. Four columns to a lane, the same in all rows and
// calls: whole sectors.
template <int kColumns>
inline constexpr int kSliceLanes = kColumns / 4;
template <int kRows, int kColumns, typename Params, typename Sums>
DARKROOM_DEVICE void store_slice(const Params& p, Shared<const float> slice, uint32_t row, uint32_t end,
                                 uint32_t column, Sums& sums) {
  const auto& e = p.epilogue;
  const uint32_t phase = phase_of(p);
  const int lane = lane_index();
  if (!Sums::kWanted && p.partial == nullptr && e.geglu) {
    constexpr int kLanes = kColumns / 8;  // of a row: each has four values and their gates
    DARKROOM_NO_UNROLL
    for (int first = 0; first < kRows; first += kWarp / kLanes) {
      const int r = first + lane / kLanes, c = lane % kLanes;
      if (kRows % (kWarp / kLanes) != 0 && r >= kRows) break;
      // Of eight lanes four read their gates first: all values would lie in half of the banks.
      const int at = r * kSlicePitch<kColumns> + c / 2 * 16 + c % 2 * 4, first_read = c & 4 ? 8 : 0;
      const auto x = load(as<Vec<float, 4>>(slice + (at + first_read)));
      const auto y = load(as<Vec<float, 4>>(slice + (at + 8 - first_read)));
      auto v = first_read ? y : x, gate = first_read ? x : y;
      finish4(e, phase, row + uint32_t(r), end, column / 2 + uint32_t(c) * 4, v.v, gate.v, sums);
    }
    return;
  }
  constexpr int kLanes = kSliceLanes<kColumns>;
  DARKROOM_NO_UNROLL
  for (int first = 0; first < kRows; first += kWarp / kLanes) {
    const int r = first + lane / kLanes, c = lane % kLanes * 4;
    auto v = load(as<Vec<float, 4>>(slice + (r * kSlicePitch<kColumns> + c)));
    const uint32_t n = column + uint32_t(c);
    if (!Sums::kWanted && p.partial != nullptr) {
      if (row + uint32_t(r) < end && n < p.padded_columns)
        store(as<Vec<float, 4>>(p.partial + ((int64_t(blockIdx.z) * e.rows + row + r) * p.padded_columns + n)), v);
    } else {
      finish4(e, phase, row + uint32_t(r), end, n, v.v, v.v, sums);
    }
  }
}

inline constexpr int kReduceThreads = 256;

// Split K's second half: one thread for four outputs of a row; blockIdx.y is the phase. Five blocks of an SM: for six ptxas spills.
template <typename Params>
__global__ void __launch_bounds__(kReduceThreads, 5) reduce_splits(const __grid_constant__ Params p) {
  const auto& e = p.epilogue;
  const uint32_t outputs = e.geglu ? e.columns / 2 : e.columns, fours = (outputs + 3) / 4;
  const uint32_t item = blockIdx.x * kReduceThreads + threadIdx.x, row = item / fours, n = item % fours * 4;
  if (row >= e.rows) return;
  const uint32_t column = e.geglu ? n / 8 * 16 + n % 8 : n;
  float v[4] = {}, gate[4] = {};
  for (uint32_t split = 0; split < p.splits; ++split) {
    const auto from = p.partial + ((int64_t(split * p.phases + blockIdx.y) * e.rows + row) * p.padded_columns + column);
    const auto part = load(as<Vec<float, 4>>(from));
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) v[i] += part.v[i];
    if (!e.geglu) continue;
    const auto gates = load(as<Vec<float, 4>>(from + 8));
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) gate[i] += gates.v[i];
  }
  NoColumnSums none;
  finish4(e, blockIdx.y, row, e.rows, n, v, gate, none);
}

// The same where moments are wanted. Block: a slab of one sample and 32 columns; blockIdx.x counts [slabs of all samples][columns],
// blockIdx.y phases. A warp takes eight rows, a lane four columns of two of them: whole lines of the sums.
inline constexpr int kReduceColumns = 32, kReduceWarps = kReduceThreads / kWarp, kReduceRows = kSlabRows / kReduceWarps;
template <typename Params>
__global__ void __launch_bounds__(kReduceThreads, 4) reduce_splits_and_moments(const __grid_constant__ Params p) {
  const auto& e = p.epilogue;
  constexpr int kLanes = kSliceLanes<kReduceColumns>, kPitch = kReduceColumns;
  const uint32_t wide = (e.columns + kReduceColumns - 1) / kReduceColumns;
  const TileRows rows = tile_rows<true, kSlabRows>(blockIdx.x / wide, e.rows, e.rows_of_sample);
  const uint32_t first_column = blockIdx.x % wide * kReduceColumns, lane = uint32_t(lane_index());
  const uint32_t first_row = rows.first + uint32_t(warp_index()) * kReduceRows + lane / kLanes;
  const uint32_t n = first_column + lane % kLanes * 4;
  ColumnSums sums;
  DARKROOM_UNROLL
  for (int i = 0; i < kReduceRows; i += kWarp / kLanes) {
    const uint32_t row = first_row + uint32_t(i);
    if (row >= rows.end || n >= e.columns) break;
    float v[4] = {};
    for (uint32_t split = 0; split < p.splits; ++split) {
      const auto part = load(as<Vec<float, 4>>(
          p.partial + ((int64_t(split * p.phases + blockIdx.y) * e.rows + row) * p.padded_columns + n)));
      DARKROOM_UNROLL
      for (int j = 0; j < 4; ++j) v[j] += part.v[j];
    }
    finish4(e, blockIdx.y, row, rows.end, n, v, v, sums);
  }
  const Shared<float> pieces = shared_array<float, kReduceWarps * 2 * kPitch>();
  store_piece<kLanes>(sums, pieces + warp_index() * 2 * kPitch, kPitch);
  store_slabs<kReduceWarps, 1, kReduceRows, kReduceColumns, 2 * kPitch>(e.moments, pieces, kPitch, rows, blockIdx.y,
                                                                        first_column, e.columns);
}

// --- host -------------------------------------------------------------------------------------------------------------

// Where the pixels (2y, 2x) of a picture [B, 2H, 2W, C] begin, numbered as those of [B, H, W].
inline RowMap every_second_pixel(const TensorView& v) {
  return {.stride = {v.stride[0], 2 * v.stride[1], 2 * v.stride[2]},
          .size = {uint32_t(v.shape[0]), uint32_t(v.shape[1] / 2), uint32_t(v.shape[2] / 2)}};
}

// Everything but the weight's pointer and how K is split.
template <typename A, typename W, typename O>
GemmParams<A, W, O> gemm_params(const GemmCall& c, int64_t block) {
  GemmParams<A, W, O> p{};
  GatherParams& g = p.gather;
  for (int s = 0; s < 2; ++s) {
    const TensorView& x = c.source[s];
    if (!x.present()) continue;
    p.source[s] = global<const A>(x, s == 0 ? "A" : "A2");
    g.channels[s] = uint32_t(x.channels());
    g.blocks[s] = uint32_t(ceil_div(x.channels(), block));
    for (int i = 0; i + 1 < x.rank(); ++i) g.stride[s][i + 4 - x.rank()] = x.stride[size_t(i)];
  }
  const TensorView &x = c.source[0], &out = c.out;
  const auto side = [](const TensorView& v, int from_last) {
    return uint32_t(v.rank() > from_last ? v.shape[-1 - from_last] : 1);
  };
  g.height = side(x, 2);
  g.width = side(x, 1);
  g.seen_height = c.seen_height ? uint32_t(c.seen_height) : g.height;
  g.seen_width = c.seen_width ? uint32_t(c.seen_width) : g.width;
  g.out_height = c.phases == 1 ? side(out, 2) : g.height;
  g.out_width = c.phases == 1 ? side(out, 1) : g.width;
  g.kernel = c.kernel;
  g.stride_y_x = c.stride;
  g.pad_top = c.pad_top;
  g.pad_left = c.pad_left;

  p.depth = c.k_blocks(block) * block;
  p.k_blocks = uint32_t(c.k_blocks(block));
  p.k_blocks_of_split = p.k_blocks;
  p.splits = 1;
  p.phases = uint32_t(c.phases);
  p.padded_columns = uint32_t(c.padded_columns());

  EpilogueParams<O>& e = p.epilogue;
  e.bias = global<const float>(c.bias, "bias");
  e.row_bias = global<const float>(c.row_bias, "row_bias");
  e.row_bias_stride = c.row_bias.stride[0];
  if (out.dtype == DType::f32) {
    e.out_f32 = global<float>(out, "out");
    e.residual_f32 = global<const float>(c.residual, "residual");
  } else {
    e.out_16 = global<O>(out, "out");
    e.residual_16 = global<const O>(c.residual, "residual");
  }
  e.out_rows = c.phases == 1 ? row_map(out) : every_second_pixel(out);
  for (int i = 0; c.phases > 1 && i < 2; ++i) e.phase_stride[i] = out.stride[size_t(i) + 1];
  e.residual_rows = row_map(c.residual);
  e.rows = uint32_t(c.rows());
  e.rows_of_sample = out.rank() >= 2 ? uint32_t(c.rows() / out.shape[0]) : 1;
  e.columns = uint32_t(c.columns());
  e.activation = c.epilogue.activation;
  e.geglu = c.epilogue.geglu;
  e.moments = moments_params(c);
  e.vectors = rows_of(4, out) && rows_of(4, c.residual) && rows_of(4, c.bias) && rows_of(4, c.row_bias);
  return p;
}

// Blocks that take `tile` rows of the output each: of a sample each where moments are wanted.
inline uint32_t blocks_of_rows(const GemmCall& c, int64_t tile) {
  if (!c.moments.present()) return blocks_for(c.rows(), tile);
  return blocks_for(c.rows() / c.out.shape[0], tile) * uint32_t(c.out.shape[0]);
}

}  // namespace darkroom::cuda

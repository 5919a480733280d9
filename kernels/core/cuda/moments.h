// Moments of what a convolution stores (KernelCall::moments), from the epilogue of an implicit GEMM; and how moments meet.
//
//   slab    kSlabRows rows of one sample, of one phase; a sample's last has fewer. Slabs follow from the shape of a sample whatever
//           the tile: tiles are laid over each sample by itself, and hold whole slabs or end with their sample.
//   lane    four columns of some rows of its warp: Σ(x − x₀) and Σ(x − x₀)² of the values as they are stored, x₀ the first of them,
//           no further from the mean than √n deviations: at most n times the result cancels, however large the mean.
//   warp    the lanes of a column meet by shuffle, by Chan's combination; mean and squares go to shared memory, a piece.
//   block   a thread a column: it combines the pieces of a slab in order. No atomics: the same plan gives the same bits.
//
// Bytes: 12 for 64 outputs of a column, 9 % of what bf16 outputs are. Budget: 13 registers while a warp's sums go out; no shared
// memory beyond what the epilogue has.
// Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Sample Variances (1979).
#pragma once

#include "kernels/core/cuda/device.h"
#include "kernels/core/gemm_call.h"

namespace darkroom::cuda {

struct Moments {
  float count, mean, squares;  // squares: of deviations from the mean
};
DARKROOM_DEVICE Moments merge(const Moments& a, const Moments& b) {
  if (a.count == 0) return b;
  if (b.count == 0) return a;
  const float count = a.count + b.count, difference = b.mean - a.mean, share = b.count / count;
  return {count, a.mean + difference * share, a.squares + b.squares + difference * difference * a.count * share};
}
// Merges what `parts` neighbouring lanes have, a power of two; the first of them gets all. All lanes of the warp take part.
DARKROOM_DEVICE Moments merge_parts(Moments mine, uint32_t parts) {
  for (uint32_t m = 1; m < parts; m *= 2)
    mine = merge(mine,
                 {shuffle_xor(mine.count, int(m)), shuffle_xor(mine.mean, int(m)), shuffle_xor(mine.squares, int(m))});
  return mine;
}

// Where they go: [sample][slab][count, mean, squares][C]. slabs: of a sample, of one phase.
struct MomentsParams {
  Global<float> to;
  int64_t sample, slab, kind;  // strides
  uint32_t slabs;
};

// What a lane knows of its four columns. The other: of a convolution that leaves no moments.
struct ColumnSums {
  static constexpr bool kWanted = true;
  float origin[4] = {}, sum[4] = {}, squares[4] = {}, count = 0;
};
struct NoColumnSums {
  static constexpr bool kWanted = false;
};
DARKROOM_DEVICE void add_row(ColumnSums& s, const float (&x)[4]) {
  DARKROOM_UNROLL
  for (int i = 0; i < 4; ++i) {
    if (s.count == 0) s.origin[i] = x[i];
    const float d = x[i] - s.origin[i];
    s.sum[i] += d;
    s.squares[i] += d * d;
  }
  s.count += 1;
}

// The lanes of a column lie kLanes apart. The first kLanes write what all have seen: mean and, `pitch` further, squares.
template <int kLanes>
DARKROOM_DEVICE void store_piece(const ColumnSums& s, Shared<float> piece, int pitch) {
  float mean[4], squares[4], count = s.count;
  const float each = count > 0 ? 1 / count : 0.0f;
  DARKROOM_UNROLL
  for (int i = 0; i < 4; ++i) {
    const float d = s.sum[i] * each;
    mean[i] = s.origin[i] + d;
    squares[i] = s.squares[i] - s.sum[i] * d;
  }
  DARKROOM_UNROLL
  for (int m = kLanes; m < kWarp; m *= 2) {
    const float others = shuffle_xor(count, m), all = count + others, share = all > 0 ? others / all : 0.0f;
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const float difference = shuffle_xor(mean[i], m) - mean[i];
      squares[i] += shuffle_xor(squares[i], m) + difference * difference * (count * share);
      mean[i] += difference * share;
    }
    count = all;
  }
  if (lane_index() >= kLanes) return;
  const Shared<float> at = piece + lane_index() * 4;
  store(as<Vec<float, 4>>(at), Vec<float, 4>{{mean[0], mean[1], mean[2], mean[3]}});
  store(as<Vec<float, 4>>(at + pitch), Vec<float, 4>{{squares[0], squares[1], squares[2], squares[3]}});
}

// Rows of a tile, to before `end`: of its sample where moments are wanted, which begins at `sample_first`.
struct TileRows {
  uint32_t first, end, sample, sample_first;
};
template <bool kMoments, int kTile>
DARKROOM_DEVICE TileRows tile_rows(uint32_t tile, uint32_t rows, uint32_t rows_of_sample) {
  if constexpr (!kMoments) return {tile * kTile, rows, 0, 0};
  const uint32_t tiles = (rows_of_sample + kTile - 1) / kTile, sample = tile / tiles, begin = sample * rows_of_sample;
  return {begin + tile % tiles * kTile, begin + rows_of_sample, sample, begin};
}

// The slabs of a tile, whose warps lie kWarpsM × kWarpsN, kRows × kColumns to each; piece: that of the first warp, those of the others
// kApart floats further each. Begins with a barrier of the block.
template <int kWarpsM, int kWarpsN, int kRows, int kColumns, int kApart>
DARKROOM_DEVICE void store_slabs(const MomentsParams& m, Shared<const float> pieces, int pitch, const TileRows& rows,
                                 uint32_t phase, uint32_t first_column, uint32_t columns) {
  constexpr int kThreads = kWarp * kWarpsM * kWarpsN, kWidth = kWarpsN * kColumns;
  constexpr int kPieces = kSlabRows / kRows, kSlabs = kWarpsM / kPieces;
  static_assert(kPieces * kRows == kSlabRows && kSlabs * kPieces == kWarpsM, "whole slabs");
  sync_block();
  const uint32_t first_slab = phase * m.slabs + (rows.first - rows.sample_first) / kSlabRows;
  for (int item = int(threadIdx.x); item < kSlabs * kWidth; item += kThreads) {
    const int slab = item / kWidth, column = item % kWidth;
    const uint32_t n = first_column + uint32_t(column), begin = rows.first + uint32_t(slab) * kSlabRows;
    if (begin >= rows.end || n >= columns) continue;
    Moments all{0, 0, 0};
    DARKROOM_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      const uint32_t row = begin + uint32_t(i) * kRows;
      if (row >= rows.end) break;
      const float count = rows.end - row < kRows ? float(rows.end - row) : float(kRows);
      const auto at = pieces + (((slab * kPieces + i) * kWarpsN + column / kColumns) * kApart + column % kColumns);
      all = merge(all, {count, load(at), load(at + pitch)});
    }
    const Global<float> to = m.to + (rows.sample * m.sample + (first_slab + uint32_t(slab)) * m.slab + n);
    store(to, all.count);
    store(to + m.kind, all.mean);
    store(to + 2 * m.kind, all.squares);
  }
}

// --- host -------------------------------------------------------------------------------------------------------------

inline MomentsParams moments_params(const GemmCall& c) {
  const TensorView& v = c.moments;
  if (!v.present()) return {};
  return {global<float>(v, "moments"), v.stride[0], v.stride[1], v.stride[2], uint32_t(v.shape[1] / c.phases)};
}

}  // namespace darkroom::cuda

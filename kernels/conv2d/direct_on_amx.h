// conv2d 3×3 and 1×1 of stride 1 on AMX without a gather: the tiles read the picture itself, each pixel copied once for all of its
// taps.
//
//   for each block of pieces (a piece: kMaxWidth × up to kMaxPixels pixels of one sample):       as members take them
//     for each chunk of planes:
//       A [plane][piece][position][32]    the pieces with the border that the taps reach, 32 channels (64 bytes) of each pixel
//       for each phase and panel of 32 output channels:                                           as members take them
//         for each group of planes whose weights fit L1:
//           for each 32 pixels:     sums [32][32] += Σ_{plane, tap} A[plane][position of the pixel + offset of the tap] · W
//         after the last chunk: epilogue, store
//
// A tile's rows are two runs of 16 pixels, each within a line, so that a tap is an offset, the same for all rows, and half a tile 1 KB
// without gaps. Where lines are no multiple of 16 pixels, tiles run through lines and border: what is computed between lines is not stored.
//
// The bytes that come from L2 a product of 16×16×32, by count: weights 0.02 KB at 32 tiles a block, A 0.1 (a line of three is
// new, nine taps use it), sums 0.11. An implicit GEMM's are 0.75; L2 gives 0.55 in a product's 16 cycles.
//
// A phase is one of the four convolutions of the sub-pixel form (subpixel.h), which has 4 taps; else there is one, of 9 or 1.
//
// Memory works while the tiles do: the next weights, the next input and the lines of the output come to L2 a few with each tile.
//
// Moments of what is stored (slab_moments.h): a slab is a piece, and in the sub-pixel form one phase of it.
//
// Same bits: a sum runs over planes and taps in one order, whatever the blocks and the team.
// Source: Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures (2018), for the direct
// convolution on blocked channels.
#pragma once

#include "kernels/conv2d/direct_on_amx_input.h"
#include "kernels/conv2d/slab_moments.h"
#include "kernels/core/reject.h"

namespace darkroom::direct_on_amx {

using namespace gemm_frame;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

// What comes to L2 while the tiles of an output are computed, a part with each.
struct Meanwhile {
  NextInput& input;
  const RowTable<Rows>& table;
  int64_t input_lines = 0;
  const char* weights = nullptr;  // of the next group
  int64_t weight_bytes = 0, weight_part = 0;
  const Store* store = nullptr;  // what its epilogue will read and write; null: not yet
  int64_t first_channel = 0, row = 0, rows = 0, rows_part = 0;

  void fetch() {
    for (int64_t i = smaller(weight_part, weight_bytes); i > 0; i -= 64, weights += 64, weight_bytes -= 64)
      _mm_prefetch(weights, _MM_HINT_T1);
    input.fetch(input_lines);
    if (!store) return;
    const int64_t last = smaller(row + rows_part, rows);
    for (; row < last; ++row) {
      _mm_prefetch(element(store->out, table.out[row]), _MM_HINT_T1);
      if (store->residual.present()) _mm_prefetch(element(store->residual, table.residual[row]), _MM_HINT_T1);
    }
  }
  const char* element(const TensorView& v, int64_t offset) const {
    return v.as<char>() + (offset + first_channel) * int64_t(dtype_size(v.dtype));
  }
};

// --- the products -----------------------------------------------------------------------------------------------------

// sums [32 or 16, 32 or 16] = (accumulate ? sums : 0) + Σ_i a[offset[i] + row][32] · w[i][32][32]; rows 16 to 31 lie from `lower` on
template <bool kBoth, bool kWide>
void multiply(const bf16_t* a, const bf16_t* lower, const int64_t* offset, int64_t n, const bf16_t* w, float* sums,
              bool accumulate) {
  gemm_amx::begin_sums<kBoth, kWide>(sums, accumulate);
  const char* weights = reinterpret_cast<const char*>(w);
  for (int64_t i = 0; i < n; ++i, weights += gemm_amx::kStepOfWeights)
    gemm_amx::step<gemm_amx_bf16::Pairs, kBoth, kWide>(reinterpret_cast<const char*>(a + offset[i]),
                                                       reinterpret_cast<const char*>(lower + offset[i]), 64, weights,
                                                       weights + 1024, 64);
  gemm_amx::end_sums<kBoth, kWide>(sums);
}

// The offsets of all taps of `planes` planes, in the order of the weights.
void tap_offsets(const Blocking& b, int phase, int64_t planes, int64_t* offset) {
  const int side = b.taps == 9 ? 3 : b.taps == 4 ? 2 : 1;
  for (int64_t p = 0; p < planes; ++p)
    for (int tap = 0; tap < b.taps; ++tap) {
      const int64_t y = phase / 2 + tap / side, x = phase % 2 + tap % side;
      *offset++ = p * b.plane_elements() + (y * b.line + x) * kPlane;
    }
}

// All tiles of a block, for one output and group of planes. Wide: more than 16 output channels.
void multiply_block(const Blocking& b, int64_t pieces, const bf16_t* a, const int64_t* offset, int64_t n,
                    const bf16_t* w, bool wide, float* sums, bool accumulate, Meanwhile& meanwhile) {
  const auto whole = wide ? multiply<true, true> : multiply<true, false>;
  const auto half = wide ? multiply<false, true> : multiply<false, false>;
  for (int64_t piece = 0; piece < pieces; ++piece, a += b.piece_positions * kPlane)
    for (int64_t t = 0; t < b.tiles; ++t, sums += kMr * kNr) {
      meanwhile.fetch();
      const bool both = t + 1 < b.tiles || b.last > kHalf;
      const int64_t upper = b.position(t * kMr), lower = b.position(t * kMr + kHalf);
      (both ? whole : half)(a + upper * kPlane, a + lower * kPlane, offset, n, w, sums, accumulate);
    }
}

// --- the output -------------------------------------------------------------------------------------------------------

// Every second pixel of a picture in both directions, from (py, px) on.
TensorView phase_view(TensorView v, int phase) {
  if (!v.present()) return v;
  v.data = static_cast<char*>(v.data) + size_t(phase / 2 * v.stride[1] + phase % 2 * v.stride[2]) * dtype_size(v.dtype);
  for (int dim : {1, 2}) {
    v.shape[dim] /= 2;
    v.stride[dim] *= 2;
  }
  return v;
}

// Where the pixels of a block go; those beyond the picture have no place, and none is asked for.
void fill_table(const Store& s, const Blocking& b, int64_t first_piece, int64_t pieces, RowTable<Rows>& table) {
  const auto offset = [](const TensorView& v, const Place& at, int64_t y, int64_t x) {
    return at.sample * v.stride[0] + (at.y + y) * v.stride[1] + (at.x + x) * v.stride[2];
  };
  int64_t i = 0;
  for (int64_t piece = first_piece; piece < first_piece + pieces; ++piece) {
    const Place at = place_of(b, piece);
    for (int64_t y = 0; y < b.piece_height; ++y)
      for (int64_t x = 0; x < b.piece_width; ++x, ++i) {
        table.out[i] = offset(s.out, at, y, x);
        if (s.residual.present()) table.residual[i] = offset(s.residual, at, y, x);
        if (s.row_bias.present()) table.row_bias[i] = s.row_bias.as<float>() + at.sample * s.row_bias.stride[0];
      }
  }
}

using Slab = slab_moments::Slab<simd512::Lanes, kNr>;

// `width` pixels of a line of the output, `part` channels at most of each.
template <typename Out>
void add_line(const TensorView& out, int64_t offset, int64_t width, int64_t part, Slab& slab) {
  slab_moments::add_pixels(slab, width, part, [&](int64_t x) { return out.as<Out>() + offset + x * out.stride[2]; });
}

// The tiles of a block without the positions between lines and beyond the picture.
void store_block(const Store& s, const RowTable<Rows>& table, const Blocking& b, int64_t first_piece, int64_t pieces,
                 const float* sums, int64_t panel, const TensorView& moments, int phase) {
  const bool narrow = s.out.dtype == DType::bf16;
  const auto store = narrow ? gemm_avx512::store_tile<bf16_t, Rows> : gemm_avx512::store_tile<float, Rows>;
  const auto add = narrow ? add_line<bf16_t> : add_line<float>;
  const int64_t n = panel * kNr;
  Slab slab;
  for (int64_t piece = 0; piece < pieces; ++piece, sums += b.tiles * kMr * kNr) {
    const Place at = place_of(b, first_piece + piece);
    const int64_t width = smaller(b.piece_width, b.width - at.x), height = smaller(b.piece_height, b.height - at.y);
    if (moments.present()) slab.begin();
    for (int64_t y = 0; y < height; ++y) {
      const int64_t row = (piece * b.piece_height + y) * b.piece_width;
      for (int64_t x = 0; x < width;) {
        const int64_t sum = y * b.row + x, rows = smaller(kMr - sum % kMr, width - x);
        store(s, table, sums + sum * kNr, row + x, rows, panel);
        x += rows;
      }
      if (moments.present()) add(s.out, table.out[row] + n, width, b.N - n, slab);
    }
    if (moments.present())
      slab.write(moments, at.sample, (first_piece + piece) % (b.pieces_y * b.pieces_x) * b.phases + phase, n);
  }
}

// --- the kernel -------------------------------------------------------------------------------------------------------

const char* reject_call(const KernelCall& call, bool subpixel) {
  const Conv2dAttrs& attrs = conv2d_attributes(call);
  const TensorView &x = call.in[Conv2dAttrs::kX], &x2 = call.in[Conv2dAttrs::kX2];
  if (subpixel) {
    if (const char* reason = subpixel::reject(call)) return reason;
  } else {
    const int border = attrs.kernel / 2;
    if (attrs.stride != 1 || attrs.pad_top != border || attrs.pad_left != border || attrs.pad_bottom != border ||
        attrs.pad_right != border)
      return "only stride 1 and the border that keeps the size";
  }
  // Activations in f32 are worth more than the products of bf16 would leave of them.
  if (x.dtype != DType::bf16 || (x2.present() && x2.dtype != DType::bf16)) return "x and x2 must be bf16";
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  if (!is_weight_type(call.in[Conv2dAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  if (attrs.int8) return "products of int8 are asked for";
  if (attrs.epilogue.geglu) return "it has no GEGLU";
  const TensorView& norm = conv2d_norm(call).coefficients;
  if (norm.present() && norm.dtype != DType::f32) return "the norm must be f32";
  return nullptr;
}

size_t weight_bytes(const KernelCall& call, bool subpixel) {
  const Blocking b = blocking_of(call, subpixel, 1);
  return size_t(b.outputs() * b.planes * b.weight_elements()) * sizeof(bf16_t);
}

// One output channel [C][3][3] (or [C][1][1]) into lane `lane` of an output.
template <typename From>
void pack_channel(const Blocking& b, bool subpixel, int phase, const From* weight, int64_t lane, bf16_t* to) {
  const int64_t count = subpixel ? 9 : b.taps;
  to += lane / 16 * kPlane * 16 + lane % 16 * 2;
  for (int64_t c = 0; c < b.C; ++c, weight += count) {
    float stored[9];
    for (int64_t tap = 0; tap < count; ++tap) stored[tap] = to_float(weight[tap]);
    bf16_t* pair = to + c / kPlane * b.weight_elements() + c % kPlane / 2 * 32 + c % 2;
    for (int tap = 0; tap < b.taps; ++tap)
      pair[tap * kPlane * kNr] = to_bf16(subpixel ? subpixel::weight(stored, phase, tap) : stored[tap]);
  }
}

// [phase][panel][plane][tap][half of the panel][16 pairs of channels][16 output channels][2]: a tile's second operand is 1 KB.
void pack_weights(const KernelCall& call, std::span<const TensorView> parts, bool subpixel, void* packed,
                  const Team& team) {
  const Blocking b = blocking_of(call, subpixel, 1);
  const int64_t of_channel = b.C * (subpixel ? 9 : b.taps);
  const auto [first, last] = team.range(b.outputs());
  for (int64_t output = first; output < last; ++output) {
    bf16_t* to = static_cast<bf16_t*>(packed) + output * b.planes * b.weight_elements();
    memset(to, 0, size_t(b.planes * b.weight_elements()) * sizeof(bf16_t));
    const int phase = int(output / b.panels);
    for (int64_t lane = 0; lane < kNr; ++lane) {
      int64_t n = output % b.panels * kNr + lane;
      if (n >= b.N) break;
      size_t part = 0;
      while (part + 1 < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
      const TensorView& w = parts[part];
      if (w.dtype == DType::f32) pack_channel(b, subpixel, phase, w.as<float>() + n * of_channel, lane, to);
      if (w.dtype == DType::f16) pack_channel(b, subpixel, phase, w.as<f16_t>() + n * of_channel, lane, to);
      if (w.dtype == DType::bf16) pack_channel(b, subpixel, phase, w.as<bf16_t>() + n * of_channel, lane, to);
    }
  }
  team.sync();
}

// One member's view of the work.
struct Convolution {
  const KernelCall& call;
  const bool subpixel;
  const Blocking b;
  const Store store;
  bf16_t* a;
  float* all_sums;
  RowTable<Rows> table;

  Convolution(const KernelCall& c, bool is_subpixel, const Team& team)
      : call(c),
        subpixel(is_subpixel),
        b(blocking_of(c, is_subpixel, team.count)),
        store{.out = call.out,
              .bias = call.in[Conv2dAttrs::kBias],
              .row_bias = call.in[Conv2dAttrs::kRowBias],
              .residual = call.in[Conv2dAttrs::kResidual],
              .activation = conv2d_attributes(call).epilogue.activation} {
    a = reinterpret_cast<bf16_t*>(static_cast<char*>(call.scratch) + size_t(team.index) * b.member_bytes());
    all_sums = reinterpret_cast<float*>(a + b.chunk * b.plane_elements());
  }

  void compute(int64_t piece, int64_t pieces, int64_t chunk, int64_t begin, int64_t end, float* sums, NextInput& next);
  void run(const Team& team);
};

// Outputs [begin, end) for a block, from the chunk of planes in A; after the last chunk they are stored.
void Convolution::compute(int64_t piece, int64_t pieces, int64_t chunk, int64_t begin, int64_t end, float* sums,
                          NextInput& next) {
  const int64_t chunk_end = smaller(chunk + b.chunk, b.planes), groups = ceil_div(chunk_end - chunk, b.group);
  const int64_t tiles = pieces * b.tiles, rows = pieces * b.piece_height * b.piece_width;
  const bool last = chunk_end == b.planes;
  int64_t offset[kMaxGroup];
  for (int64_t output = begin; output < end; ++output) {
    const int phase = int(output / b.panels);
    Store part = store;
    if (subpixel) part.out = phase_view(store.out, phase), part.residual = phase_view(store.residual, phase);
    if (last && (subpixel || output == begin)) fill_table(part, b, piece, pieces, table);
    const bf16_t* weights = static_cast<const bf16_t*>(call.packed) + output * b.planes * b.weight_elements();
    tap_offsets(b, phase, b.group, offset);
    const bool wide = b.N - output % b.panels * kNr > 16;
    Meanwhile meanwhile{next, table};
    meanwhile.input_lines = ceil_div(pieces * b.piece_positions * b.chunk, b.expected * groups * tiles);  // about
    meanwhile.store = last ? &part : nullptr;
    meanwhile.first_channel = output % b.panels * kNr;
    meanwhile.rows = rows;
    meanwhile.rows_part = ceil_div(rows, groups * tiles);
    for (int64_t plane = chunk; plane < chunk_end; plane += b.group) {
      const int64_t planes = smaller(b.group, chunk_end - plane);
      const bf16_t* w = weights + plane * b.weight_elements();
      const int64_t next_plane = plane + planes < chunk_end ? plane + planes : b.planes + chunk;
      meanwhile.weights = reinterpret_cast<const char*>(weights + next_plane * b.weight_elements());
      meanwhile.weight_bytes = planes * b.weight_elements() * int64_t(sizeof(bf16_t));
      meanwhile.weight_part = round_up(ceil_div(meanwhile.weight_bytes, tiles), 64);
      multiply_block(b, pieces, a + (plane - chunk) * b.plane_elements(), offset, planes * b.taps, w, wide, sums,
                     plane > 0, meanwhile);
    }
    if (last) store_block(part, table, b, piece, pieces, sums, output % b.panels, call.moments, phase);
    if (b.chunks > 1) sums += b.sums_of_output();
  }
}

void Convolution::run(const Team& team) {
  const int64_t own_end = team.range(b.items()).second;
  Items items(team, b.items());
  for (int64_t item = items.take(); item < b.items();) {
    // The shares of one block that this member takes while it has the first chunk; of the others it computes the same.
    const int64_t block = item / b.shares, piece = block % b.blocks * b.block;
    const int64_t pieces = smaller(b.block, b.pieces - piece), strip = block / b.blocks * b.strip_outputs;
    const int64_t strip_end = smaller(strip + b.strip_outputs, b.outputs());
    int64_t taken[kOwnItems], shares = 0;
    const auto compute_share = [&](int64_t i, int64_t chunk, NextInput& next) {
      const int64_t begin = strip + taken[i] % b.shares * b.share_outputs;
      float* sums = all_sums + (b.chunks > 1 ? i * b.share_outputs * b.sums_of_output() : 0);
      compute(piece, pieces, chunk, begin, smaller(begin + b.share_outputs, strip_end), sums, next);
    };
    for (int64_t chunk = 0; chunk < b.planes; chunk += b.chunk) {
      const int64_t chunk_end = smaller(chunk + b.chunk, b.planes);
      for (int64_t i = 0; i < pieces; ++i)
        copy_piece(call, b, piece + i, chunk, chunk_end, a + i * b.piece_positions * kPlane);
      // What is copied next, if it is this member's.
      const bool follows = (block + 1) % b.blocks != 0 && (block + 1) * b.shares < own_end;
      const int64_t next_pieces = follows ? smaller(b.block, b.pieces - piece - b.block) : 0;
      NextInput next = chunk_end < b.planes
                           ? NextInput(call, b, piece, pieces, chunk_end, smaller(chunk_end + b.chunk, b.planes))
                           : NextInput(call, b, piece + b.block, next_pieces, 0, b.chunk);
      if (chunk > 0)
        for (int64_t i = 0; i < shares; ++i) compute_share(i, chunk, next);
      else
        for (; item < b.items() && item / b.shares == block; item = items.take()) {
          taken[shares++] = item;
          compute_share(shares - 1, 0, next);
        }
    }
  }
}

template <bool kSubpixel>
struct Kernel {
  static const char* reject(const KernelCall& call) { return reject_call(call, kSubpixel); }
  static size_t scratch_bytes(const KernelCall& call, int team) {
    return size_t(team) * blocking_of(call, kSubpixel, team).member_bytes();
  }
  static size_t packed_bytes(const KernelCall& call) { return weight_bytes(call, kSubpixel); }
  static void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
    pack_weights(call, parts, kSubpixel, packed, team);
  }
  static void launch(const KernelCall& call, const Team& team) {
    const gemm_amx::Tiles registers;
    Convolution(call, kSubpixel, team).run(team);
  }
  // 512 products a cycle at best, three fifths of it expected where taps share what was copied (1×1: less than the implicit GEMM's);
  // positions that are not stored cost as much as others.
  static double cycles(const KernelCall& call) {
    const Blocking b = blocking_of(call, kSubpixel, 1);
    const double rows = double(b.pieces_y * b.pieces_x * (b.tiles * kMr - (b.last > kHalf ? 0 : kHalf)));
    return rows * double(b.planes * kPlane * b.taps) * double(b.outputs() * kNr) / ((b.taps == 1 ? 0.35 : 0.6) * 512);
  }

  static int64_t moments_slabs(const KernelCall& call) {
    const Blocking b = blocking_of(call, kSubpixel, 1);
    return b.pieces_y * b.pieces_x * b.phases;
  }

  static constexpr KernelDef definition(OpKind op) {
    return {
        .op = op,
        .variant = kSubpixel ? "amx_bf16_subpixel" : "amx_bf16_direct",
        .isa = Isa::amx,
        .reject = reject,
        .scratch_bytes = scratch_bytes,
        .pack_format = kSubpixel ? "bf16_tiles_by_tap_subpixel" : "bf16_tiles_by_tap",
        .packed_bytes = packed_bytes,
        .pack = pack,
        .launch = launch,
        .cycles = cycles,
        .moments_slabs = moments_slabs,
        .inexact = kSubpixel,
    };
  }
};

}  // namespace
}  // namespace darkroom::direct_on_amx

// conv2d 3×3 and 1×1 of stride 1 on AMX without a gather: the tiles read the picture itself, each pixel copied once for all of its
// taps.
//
//   for each block of pieces (a piece: kMaxWidth × up to kMaxPixels pixels of one sample):       this member's part
//     for each chunk of planes:
//       A [plane][piece][position][32]    the pieces with the border that the taps reach, 32 channels (64 bytes) of each pixel
//       for each phase and panel of 32 output channels:                                           this member's part
//         for each group of planes whose weights fit L1:
//           for each 32 positions:  sums [32][32] += Σ_{plane, tap} A[plane][position + offset of the tap] · W
//         after the last chunk: epilogue, store
//
// Positions run through the lines of a piece, border included, so that a tap is an offset, the same for all of a tile's rows, and
// a tile is 1 KB without gaps. The two positions between lines are computed and not stored: 3 % at a width of 64.
//
// The bytes that come from L2 a product of 16×16×32, by count: weights 0.02 KB at 32 tiles a block, A 0.1 (a line of three is
// new, nine taps use it), sums 0.11. An implicit GEMM's are 0.75; L2 gives 0.55 in a product's 16 cycles.
//
// A phase is one of the four convolutions of the sub-pixel form (subpixel.h), which has 4 taps; else there is one, of 9 or 1.
//
// Memory works while the tiles do: the next weights, the next input and the lines of the output come to L2 a few with each tile.
//
// Same bits: a sum runs over planes and taps in one order, whatever the blocks and the team.
// Source: Georganas et al., Anatomy of High-Performance Deep Learning Convolutions on SIMD Architectures (2018), for the direct
// convolution on blocked channels.
#pragma once

#include <atomic>
#include <tuple>

#include "kernels/conv2d/attributes.h"
#include "kernels/conv2d/subpixel.h"
#include "kernels/core/gemm_core_amx_bf16.h"
#include "kernels/core/reject.h"
#include "kernels/core/simd_avx512_bf16.h"

namespace darkroom::direct_on_amx {

using namespace gemm_frame;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

constexpr int64_t kPlane = 32;                        // channels of a plane
constexpr int64_t kMr = 32, kNr = 32;                 // the tile
constexpr int64_t kMaxWidth = 64, kMaxPixels = 1024;  // of a piece, and of a block
constexpr int64_t kMaxA = 1 << 20;                    // bytes of a chunk: half of L2
constexpr int64_t kMaxGroup = 18;                     // products of 32 k a group: 36 KB of weights
constexpr int64_t kMaxFetched = 640 << 10;            // bytes of the next chunk, fetched beside the one at work

// What the epilogue's table of rows needs to know.
struct Rows {
  static constexpr int64_t kMaxMc = kMaxPixels;
};

struct Blocking {
  int64_t samples, height, width;  // of what the taps see: the enlarged picture, or the source in the sub-pixel form
  int64_t C, N;
  int phases, taps;
  int64_t border;  // of a piece, in pixels
  int64_t planes, panels;
  int64_t piece_height, piece_width, pieces_y, pieces_x, pieces;
  int64_t line;             // positions from one line of a piece to the next
  int64_t tiles, last;      // of a piece; positions in its last tile
  int64_t piece_positions;  // with what the last tile reads behind
  int64_t block;            // pieces of a block
  int64_t chunk, chunks;    // planes of a chunk
  int64_t group;            // planes of a group
  int64_t by_pieces;        // the team is a grid of by_pieces × by_panels members
  int64_t by_panels;

  int64_t plane_elements() const { return block * piece_positions * kPlane; }
  int64_t sums_of_panel() const { return block * tiles * kMr * kNr; }
  int64_t items() const { return panels * phases; }
  int64_t kept_items() const { return chunks == 1 ? 1 : ceil_div(items(), by_panels); }
  size_t member_bytes() const {
    return size_t(chunk * plane_elements()) * sizeof(bf16_t) + size_t(kept_items() * sums_of_panel()) * sizeof(float);
  }
  // Of the weights of one plane and item.
  int64_t weight_elements() const { return taps * kPlane * kNr; }
};

Blocking blocking_of(const KernelCall& call, bool subpixel, int team) {
  const Conv2dAttrs& attrs = conv2d_attributes(call);
  const Shape& x = call.in[Conv2dAttrs::kX].shape;
  const Shape& weight = call.in[Conv2dAttrs::kWeight].shape;
  const bool enlarged = attrs.upsample_height > 0 && !subpixel;
  Blocking b;
  b.samples = x[0];
  b.height = enlarged ? attrs.upsample_height : x[1];
  b.width = enlarged ? attrs.upsample_width : x[2];
  b.C = weight[1];
  b.N = weight[0];
  b.phases = subpixel ? subpixel::kPhases : 1;
  b.taps = subpixel ? subpixel::kTaps : attrs.kernel * attrs.kernel;
  b.border = attrs.kernel / 2;
  b.planes = ceil_div(b.C, kPlane);
  b.panels = ceil_div(b.N, kNr);
  b.piece_width = even_block(b.width, kMaxWidth, 1);
  b.pieces_x = ceil_div(b.width, b.piece_width);
  b.piece_height = even_block(b.height, kMaxPixels / b.piece_width, 1);
  b.pieces_y = ceil_div(b.height, b.piece_height);
  b.pieces = b.samples * b.pieces_y * b.pieces_x;
  b.line = b.piece_width + 2 * b.border;
  const int64_t positions = (b.piece_height - 1) * b.line + b.piece_width;
  b.tiles = ceil_div(positions, kMr);
  b.last = positions - (b.tiles - 1) * kMr;
  b.piece_positions = b.tiles * kMr + 2 * b.border * (b.line + 1);
  // Members share out the pieces, or the output channels where there are few pieces: products, and what is read and copied.
  double best = 0;
  for (int64_t by_pieces = 1; by_pieces <= team; ++by_pieces) {
    if (team % by_pieces != 0) continue;
    const double pieces = double(ceil_div(b.pieces, by_pieces)), items = double(ceil_div(b.items(), team / by_pieces));
    const double products = double(b.tiles * b.planes * b.taps) * 80, copy = double(b.piece_positions * b.planes) * 6;
    const double read = double(b.planes * b.weight_elements()) * 0.2;
    const double cost = pieces * items * products + pieces * copy + items * read;
    if (by_pieces == 1 || cost < best) best = cost, b.by_pieces = by_pieces, b.by_panels = team / by_pieces;
  }
  const int64_t pixels = b.piece_height * b.piece_width;
  b.block = even_block(ceil_div(b.pieces, b.by_pieces), kMaxPixels / pixels, 1);
  const int64_t fit = kMaxA / int64_t(sizeof(bf16_t)) / b.plane_elements();
  b.chunk = even_block(b.planes, fit > 0 ? fit : 1, 1);
  b.chunks = ceil_div(b.planes, b.chunk);
  b.group = even_block(b.chunk, kMaxGroup / b.taps, 1);
  return b;
}

// Where a piece begins.
struct Place {
  int64_t sample, y, x;
};
Place place_of(const Blocking& b, int64_t piece) {
  return {piece / b.pieces_x / b.pieces_y, piece / b.pieces_x % b.pieces_y * b.piece_height,
          piece % b.pieces_x * b.piece_width};
}

// --- the input --------------------------------------------------------------------------------------------------------

// x · sigmoid(x) to 1.1e-4, a twentieth of what rounding to bf16 adds. NaN stays NaN.
__m512 rough_silu(__m512 x) {
  const __m512 power = simd512::rough_exp2(0xffff, _mm512_mul_ps(x, _mm512_set1_ps(-1.44269504f)));
  return _mm512_mul_ps(x, _mm512_rcp14_ps(_mm512_add_ps(power, _mm512_set1_ps(1.0f))));
}

// n channels, 32 at most, of one pixel, from c on.
struct Copy {
  void operator()(const bf16_t* from, int64_t, int64_t n, bf16_t* to) const {
    const __mmask32 part = n >= 32 ? ~__mmask32(0) : (__mmask32(1) << n) - 1;
    _mm512_mask_storeu_epi16(to, part, _mm512_maskz_loadu_epi16(part, from));
  }
};
template <bool kSilu>
struct Normalize {
  const float *mean, *scale, *shift;
  Activation activation;

  __m512 half(__m512 x, __m512 m, __m512 a, __m512 b) const {
    const __m512 v = _mm512_fmadd_ps(_mm512_sub_ps(x, m), a, b);
    return kSilu ? rough_silu(v) : simd512::activate(activation, v);
  }
  __m512 half(const bf16_t* from, int64_t c) const {
    return half(simd512::load(from), simd512::load(mean + c), simd512::load(scale + c), simd512::load(shift + c));
  }
  void operator()(const bf16_t* from, int64_t c, int64_t n, bf16_t* to) const {
    if (n == kPlane) {
      _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(half(from + 16, c + 16), half(from, c)));
      return;
    }
    for (int64_t i = 0; i < n; i += 16) {
      const __mmask16 part = simd512::first(n - i);
      const __m512 v = half(simd512::load(from + i, part), simd512::load(mean + c + i, part),
                            simd512::load(scale + c + i, part), simd512::load(shift + c + i, part));
      simd512::store_operand(to + i, v, part);
    }
  }
};

// Pixel i of an enlarged line, in the source.
int64_t shrink(int64_t i, int64_t size, int64_t enlarged) { return size == enlarged ? i : i * size / enlarged; }

// Channels [c_begin, c_end) of one source for all positions of a piece that read it; `first` is the source's place in the concat.
template <typename Move>
void copy_source(const Blocking& b, const TensorView& source, const Place& at, int64_t first, int64_t c_begin,
                 int64_t c_end, int64_t chunk_begin, const Move& move, bf16_t* a) {
  const bf16_t* sample = source.as<bf16_t>() + at.sample * source.stride[0] - first;
  const int64_t plane = b.plane_elements();
  for (int64_t i = 0; i < b.piece_height + 2 * b.border; ++i) {
    const int64_t y = at.y + i - b.border;
    if (y < 0 || y >= b.height) continue;
    const bf16_t* line = sample + shrink(y, source.shape[1], b.height) * source.stride[1];
    for (int64_t j = 0; j < b.line; ++j) {
      const int64_t x = at.x + j - b.border;
      if (x < 0 || x >= b.width) continue;
      const bf16_t* pixel = line + shrink(x, source.shape[2], b.width) * source.stride[2];
      bf16_t* to = a + (i * b.line + j) * kPlane;
      for (int64_t c = c_begin; c < c_end;) {
        const int64_t n = smaller(kPlane - c % kPlane, c_end - c);
        move(pixel + c, c, n, to + (c - chunk_begin) / kPlane * plane + c % kPlane);
        c += n;
      }
    }
  }
}

// Zeros where no source is read: the border outside of the picture, and channels behind the last.
void zero_outside(const Blocking& b, const Place& at, int64_t planes, bool channels_too, bf16_t* a) {
  for (int64_t p = 0; p < planes; ++p, a += b.plane_elements()) {
    const bool all = channels_too && p + 1 == planes;
    for (int64_t i = 0; i < b.piece_height + 2 * b.border; ++i) {
      const int64_t y = at.y + i - b.border;
      const bool whole_line = all || y < 0 || y >= b.height;
      bf16_t* line = a + i * b.line * kPlane;
      if (whole_line) {
        memset(line, 0, size_t(b.line * kPlane) * sizeof(bf16_t));
        continue;
      }
      if (at.x == 0) memset(line, 0, size_t(b.border * kPlane) * sizeof(bf16_t));
      for (int64_t x = b.width - at.x + b.border; x < b.line; ++x)
        memset(line + x * kPlane, 0, size_t(kPlane) * sizeof(bf16_t));
    }
  }
}

void copy_piece(const KernelCall& call, const Blocking& b, int64_t piece, int64_t plane_begin, int64_t plane_end,
                bf16_t* a) {
  const Place at = place_of(b, piece);
  const int64_t chunk_begin = plane_begin * kPlane, chunk_end = smaller(plane_end * kPlane, b.C);
  zero_outside(b, at, plane_end - plane_begin, plane_end * kPlane > b.C, a);
  const ConvolutionNorm norm = conv2d_norm(call);
  int64_t first = 0;
  for (int slot : {Conv2dAttrs::kX, Conv2dAttrs::kX2}) {
    const TensorView& source = call.in[slot];
    if (!source.present()) continue;
    const int64_t begin = first > chunk_begin ? first : chunk_begin, behind = first + source.shape[3];
    const int64_t end = smaller(behind, chunk_end);
    if (begin < end && norm.coefficients.present()) {
      const float* mean = norm.coefficients.as<float>() + at.sample * norm.coefficients.stride[0];
      const int64_t step = norm.coefficients.stride[1];
      if (norm.activation == Activation::silu)
        copy_source(b, source, at, first, begin, end, chunk_begin,
                    Normalize<true>{mean, mean + step, mean + 2 * step, norm.activation}, a);
      else
        copy_source(b, source, at, first, begin, end, chunk_begin,
                    Normalize<false>{mean, mean + step, mean + 2 * step, norm.activation}, a);
    } else if (begin < end)
      copy_source(b, source, at, first, begin, end, chunk_begin, Copy{}, a);
    first = behind;
  }
}

// --- what is fetched meanwhile -----------------------------------------------------------------------------------------

// The input of the next copy, a few cache lines at a time: memory works while the tiles do.
class NextInput {
 public:
  // Nothing is fetched of what would not fit L2 beside the block at hand.
  NextInput(const KernelCall& call, const Blocking& b, int64_t piece, int64_t pieces, int64_t plane_begin,
            int64_t plane_end)
      : call_(call),
        b_(b),
        piece_(piece),
        end_(b.chunk * b.plane_elements() * int64_t(sizeof(bf16_t)) <= kMaxFetched ? piece + pieces : piece),
        c_begin_(plane_begin * kPlane),
        c_end_(smaller(plane_end * kPlane, b.C)) {}

  void fetch(int64_t lines) {
    for (; lines > 0; --lines) {
      if (pixel_ == pixels_ && !next_run()) return;
      _mm_prefetch(run_ + pixel_ * step_ + at_, _MM_HINT_T1);
      if ((at_ += 64) >= bytes_) at_ = 0, ++pixel_;
    }
  }

 private:
  // A line of a piece in one source; false after the last.
  bool next_run() {
    for (; piece_ < end_; ++piece_, line_ = 0)
      for (; line_ < b_.piece_height + 2 * b_.border; ++line_, slot_ = Conv2dAttrs::kX)
        while (slot_ <= Conv2dAttrs::kX2) {
          const TensorView &source = call_.in[slot_], &x = call_.in[Conv2dAttrs::kX];
          const int64_t first = slot_++ == Conv2dAttrs::kX ? 0 : x.shape[3];
          const Place at = place_of(b_, piece_);
          const int64_t y = at.y + line_ - b_.border, left = at.x > 0 ? at.x - b_.border : 0;
          const int64_t right = smaller(at.x + b_.piece_width + b_.border, b_.width) - 1;
          if (!source.present() || y < 0 || y >= b_.height) continue;
          const int64_t begin = c_begin_ > first ? c_begin_ : first, end = smaller(c_end_, first + source.shape[3]);
          if (begin >= end) continue;
          const int64_t column = shrink(left, source.shape[2], b_.width);
          run_ = reinterpret_cast<const char*>(source.as<bf16_t>() + at.sample * source.stride[0] +
                                               shrink(y, source.shape[1], b_.height) * source.stride[1] +
                                               column * source.stride[2] + begin - first);
          pixels_ = shrink(right, source.shape[2], b_.width) - column + 1;
          step_ = source.stride[2] * int64_t(sizeof(bf16_t));
          bytes_ = (end - begin) * int64_t(sizeof(bf16_t));
          pixel_ = at_ = 0;
          return true;
        }
    return false;
  }

  const KernelCall& call_;
  const Blocking& b_;
  int64_t piece_, end_, c_begin_, c_end_, line_ = 0;
  int slot_ = Conv2dAttrs::kX;
  const char* run_ = nullptr;
  int64_t pixels_ = 0, step_ = 0, bytes_ = 0, pixel_ = 0, at_ = 0;
};

// What comes to L2 while the tiles of an item are computed, a part with each.
struct Meanwhile {
  NextInput& input;
  const RowTable<Rows>& table;
  int64_t input_lines = 0;
  const char* weights = nullptr;  // of the next group
  int64_t weight_bytes = 0, weight_part = 0;
  const Store* store = nullptr;  // what the item's epilogue will read and write; null: not yet
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

// sums [32 or 16, 32 or 16] = (accumulate ? sums : 0) + Σ_i a[offset[i] + row][32] · w[i][32][32]
template <bool kBoth, bool kWide>
void multiply(const bf16_t* a, const int64_t* offset, int64_t n, const bf16_t* w, float* sums, bool accumulate) {
  gemm_amx::begin_sums<kBoth, kWide>(sums, accumulate);
  const char* weights = reinterpret_cast<const char*>(w);
  for (int64_t i = 0; i < n; ++i, weights += gemm_amx::kStepOfWeights)
    gemm_amx::step<gemm_amx_bf16::Pairs, kBoth, kWide>(reinterpret_cast<const char*>(a + offset[i]), 64, weights,
                                                       weights + 1024, 64);
  gemm_amx::end_sums<kBoth, kWide>(sums);
}

// The offsets of all taps of `planes` planes, in the order of the weights.
void tap_offsets(const Blocking& b, int phase, int64_t planes, int64_t* offset) {
  for (int64_t p = 0; p < planes; ++p)
    for (int tap = 0; tap < b.taps; ++tap) {
      const int side = b.taps == 9 ? 3 : b.taps == 4 ? 2 : 1;
      const int64_t y = phase / 2 + tap / side, x = phase % 2 + tap % side;
      *offset++ = p * b.plane_elements() + (y * b.line + x) * kPlane;
    }
}

// All tiles of a block, for one item and group of planes. Wide: more than 16 output channels.
void multiply_block(const Blocking& b, int64_t pieces, const bf16_t* a, const int64_t* offset, int64_t n,
                    const bf16_t* w, bool wide, float* sums, bool accumulate, Meanwhile& meanwhile) {
  const auto whole = wide ? multiply<true, true> : multiply<true, false>;
  const auto half = wide ? multiply<false, true> : multiply<false, false>;
  for (int64_t piece = 0; piece < pieces; ++piece, a += b.piece_positions * kPlane)
    for (int64_t t = 0; t < b.tiles; ++t, sums += kMr * kNr) {
      meanwhile.fetch();
      const bool both = t + 1 < b.tiles || b.last > 16;
      (both ? whole : half)(a + t * kMr * kPlane, offset, n, w, sums, accumulate);
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

// The tiles of a block without the positions between lines and beyond the picture.
void store_block(const Store& s, const RowTable<Rows>& table, const Blocking& b, int64_t first_piece, int64_t pieces,
                 const float* sums, int64_t panel) {
  const auto store =
      s.out.dtype == DType::bf16 ? gemm_avx512::store_tile<bf16_t, Rows> : gemm_avx512::store_tile<float, Rows>;
  for (int64_t piece = 0; piece < pieces; ++piece, sums += b.tiles * kMr * kNr) {
    const Place at = place_of(b, first_piece + piece);
    const int64_t width = smaller(b.piece_width, b.width - at.x), height = smaller(b.piece_height, b.height - at.y);
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width;) {
        const int64_t position = y * b.line + x, n = smaller(kMr - position % kMr, width - x);
        store(s, table, sums + position * kNr, (piece * b.piece_height + y) * b.piece_width + x, n, panel);
        x += n;
      }
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
  return size_t(b.items() * b.planes * b.weight_elements()) * sizeof(bf16_t);
}

// One output channel [C][3][3] (or [C][1][1]) into lane `lane` of an item.
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
  const auto [first, last] = team.range(b.items());
  for (int64_t item = first; item < last; ++item) {
    bf16_t* to = static_cast<bf16_t*>(packed) + item * b.planes * b.weight_elements();
    memset(to, 0, size_t(b.planes * b.weight_elements()) * sizeof(bf16_t));
    const int phase = int(item / b.panels);
    for (int64_t lane = 0; lane < kNr; ++lane) {
      int64_t n = item % b.panels * kNr + lane;
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

// The blocks of pieces that a member computes. Where the team shares out pieces alone, each takes the next when it has done one: of
// two cores one may be three times as fast as the other beside a neighbour, and would wait for it. What a block's bits are
// does not depend on who computes it.
class Blocks {
 public:
  Blocks(const Blocking& b, const Team& team, void* counter)
      : block_(b.block), shared_(b.by_panels == 1 && team.count > 1), taken_(*static_cast<int64_t*>(counter)) {
    const Team rows = {int(team.index / b.by_panels), int(b.by_pieces), nullptr};
    std::tie(at_, end_) = rows.range(b.pieces);
    if (!shared_) return;
    end_ = b.pieces;
    if (team.index == 0) taken_.store(0, std::memory_order_relaxed);
    team.sync();
  }
  int64_t end() const { return end_; }
  // The first piece of the next block; end() or more after the last.
  int64_t take() {
    if (shared_) return taken_.fetch_add(1, std::memory_order_relaxed) * block_;
    const int64_t first = at_;
    at_ += block_;
    return first;
  }

 private:
  int64_t block_, at_ = 0, end_ = 0;
  bool shared_;
  std::atomic_ref<int64_t> taken_;
};

constexpr size_t kCounterBytes = 64;  // of the scratch, before the members' parts

size_t team_scratch_bytes(const KernelCall& call, bool subpixel, int team) {
  return kCounterBytes + size_t(team) * blocking_of(call, subpixel, team).member_bytes();
}

void launch_call(const KernelCall& call, bool subpixel, const Team& team) {
  const gemm_amx::Tiles registers;
  const Blocking b = blocking_of(call, subpixel, team.count);
  const Store store = {.out = call.out,
                       .bias = call.in[Conv2dAttrs::kBias],
                       .row_bias = call.in[Conv2dAttrs::kRowBias],
                       .residual = call.in[Conv2dAttrs::kResidual],
                       .activation = conv2d_attributes(call).epilogue.activation};
  const Team columns = {int(team.index % b.by_panels), int(b.by_panels), nullptr};
  const auto [item_begin, item_end] = columns.range(b.items());
  char* own = static_cast<char*>(call.scratch) + kCounterBytes + size_t(team.index) * b.member_bytes();
  bf16_t* a = reinterpret_cast<bf16_t*>(own);
  float* all_sums = reinterpret_cast<float*>(a + b.chunk * b.plane_elements());
  RowTable<Rows> table;
  int64_t offset[kMaxGroup];
  Blocks blocks(b, team, call.scratch);
  for (int64_t piece = blocks.take(), next_piece; piece < blocks.end(); piece = next_piece) {
    next_piece = blocks.take();
    const int64_t pieces = smaller(b.block, blocks.end() - piece), tiles = pieces * b.tiles;
    for (int64_t chunk = 0; chunk < b.planes; chunk += b.chunk) {
      const int64_t chunk_end = smaller(chunk + b.chunk, b.planes), groups = ceil_div(chunk_end - chunk, b.group);
      const bool last = chunk_end == b.planes;
      for (int64_t i = 0; i < pieces; ++i)
        copy_piece(call, b, piece + i, chunk, chunk_end, a + i * b.piece_positions * kPlane);
      const int64_t left = blocks.end() - next_piece;  // none: nothing is fetched
      NextInput next = last ? NextInput(call, b, next_piece, left > 0 ? smaller(b.block, left) : 0, 0, b.chunk)
                            : NextInput(call, b, piece, pieces, chunk_end, smaller(chunk_end + b.chunk, b.planes));
      const int64_t lines = pieces * b.piece_positions * b.chunk;  // about
      for (int64_t item = item_begin; item < item_end; ++item) {
        const int phase = int(item / b.panels);
        Store part = store;
        if (subpixel) part.out = phase_view(store.out, phase), part.residual = phase_view(store.residual, phase);
        if (last && (subpixel || item == item_begin)) fill_table(part, b, piece, pieces, table);
        float* sums = all_sums + (b.chunks == 1 ? 0 : item - item_begin) * b.sums_of_panel();
        const bf16_t* weights = static_cast<const bf16_t*>(call.packed) + item * b.planes * b.weight_elements();
        tap_offsets(b, phase, b.group, offset);
        const int64_t rows = pieces * b.piece_height * b.piece_width;
        const bool wide = b.N - item % b.panels * kNr > 16;
        Meanwhile meanwhile{next, table};
        meanwhile.input_lines = ceil_div(lines, (item_end - item_begin) * groups * tiles);
        meanwhile.store = last ? &part : nullptr;
        meanwhile.first_channel = item % b.panels * kNr;
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
        if (last) store_block(part, table, b, piece, pieces, sums, item % b.panels);
      }
    }
  }
}

// 512 products a cycle at best, three fifths of it expected; positions that are not stored cost as much as others.
double estimated_cycles(const KernelCall& call, bool subpixel) {
  const Blocking b = blocking_of(call, subpixel, 1);
  const double rows = double(b.pieces_y * b.pieces_x * (b.tiles * kMr - (b.last > 16 ? 0 : 16)));
  return rows * double(b.planes * kPlane * b.taps) * double(b.items() * kNr) / (0.6 * 512);
}

}  // namespace
}  // namespace darkroom::direct_on_amx

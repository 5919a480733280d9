// The input of the AMX convolutions of direct_on_amx.h: how it is cut into pieces, copied with its border, and fetched ahead.
#pragma once

#include "kernels/conv2d/attributes.h"
#include "kernels/conv2d/subpixel.h"
#include "kernels/core/gemm_core_amx_bf16.h"
#include "kernels/core/simd_avx512_bf16.h"

namespace darkroom::direct_on_amx {

using namespace gemm_frame;

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

constexpr int64_t kPlane = 32;                        // channels of a plane
constexpr int64_t kMr = 32, kNr = 32, kHalf = 16;     // the tile; rows of A in one register
constexpr int64_t kMaxWidth = 64, kMaxPixels = 1024;  // of a piece, and of a block
constexpr int64_t kMaxA = 1 << 20;                    // bytes of a chunk: half of L2
constexpr int64_t kMaxGroup = 18;                     // products of 32 k a group: 36 KB of weights
constexpr int64_t kMaxFetched = 640 << 10;            // bytes of the next chunk, fetched beside the one at work
constexpr int64_t kOwnItems = 8;                      // that each member of a team begins with

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
  int64_t row;              // sums from one line of a piece to the next
  int64_t tiles, last;      // of a piece; sums in its last tile
  int64_t piece_positions;  // with what the last tile reads behind
  int64_t block;            // pieces of a block
  int64_t chunk, chunks;    // planes of a chunk
  int64_t group;            // planes of a group
  // What members take: strips of outputs (a phase and panel each) follow each other, in a strip blocks, in a block shares of its outputs.
  int64_t blocks, strips, strip_outputs, shares, share_outputs;
  int64_t expected;  // outputs of a block that one member is expected to compute

  // Where sum number `sum` reads its first tap; the sixteen of half a tile read positions that follow each other.
  int64_t position(int64_t sum) const { return sum / row * line + sum % row; }
  int64_t plane_elements() const { return block * piece_positions * kPlane; }
  int64_t sums_of_output() const { return block * tiles * kMr * kNr; }
  int64_t outputs() const { return panels * phases; }
  int64_t kept_outputs() const { return chunks == 1 ? 1 : shares * share_outputs; }
  int64_t items() const { return strips * blocks * shares; }
  size_t member_bytes() const {
    return size_t(chunk * plane_elements()) * sizeof(bf16_t) +
           size_t(kept_outputs() * sums_of_output()) * sizeof(float);
  }
  // Of the weights of one plane and output.
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
  b.row = b.piece_width % kHalf == 0 ? b.piece_width : b.line;
  const int64_t computed = (b.piece_height - 1) * b.row + b.piece_width;
  b.tiles = ceil_div(computed, kMr);
  b.last = computed - (b.tiles - 1) * kMr;
  b.piece_positions = b.position(round_up(computed, kHalf) - kHalf) + kHalf + 2 * b.border * (b.line + 1);
  // Members share out the pieces, or the output channels where there are few pieces: products, and what is read and copied.
  int64_t by_pieces = 1;
  double best = 0;
  for (int64_t i = 1; i <= team; ++i) {
    if (team % i != 0) continue;
    const double pieces = double(ceil_div(b.pieces, i)), outputs = double(ceil_div(b.outputs(), team / i));
    const double products = double(b.tiles * b.planes * b.taps) * 80, copy = double(b.piece_positions * b.planes) * 6;
    const double read = double(b.planes * b.weight_elements()) * 0.2;
    const double cost = pieces * outputs * products + pieces * copy + outputs * read;
    if (i == 1 || cost < best) best = cost, by_pieces = i;
  }
  const int64_t pixels = b.piece_height * b.piece_width, own_pieces = ceil_div(b.pieces, by_pieces);
  b.block = even_block(own_pieces, kMaxPixels / pixels, 1);
  b.blocks = ceil_div(b.pieces, b.block);
  b.strips = smaller(team / by_pieces, b.outputs());
  b.strip_outputs = ceil_div(b.outputs(), b.strips);
  // So many items that the last ones do not matter.
  const int64_t own_blocks = ceil_div(own_pieces, b.block), wanted = team == 1 ? 1 : ceil_div(kOwnItems, own_blocks);
  b.share_outputs = ceil_div(b.strip_outputs, smaller(wanted, b.strip_outputs));
  b.shares = ceil_div(b.strip_outputs, b.share_outputs);
  b.expected = smaller(b.strip_outputs, ceil_div(b.strip_outputs * b.blocks, by_pieces));
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

// Channels [c_begin, c_end) of one source for all positions of a piece that read it; `first` is the source's place in the concat.
template <typename Move>
void copy_source(const Blocking& b, const TensorView& source, const Place& at, int64_t first, int64_t c_begin,
                 int64_t c_end, int64_t chunk_begin, const Move& move, bf16_t* a) {
  const bf16_t* sample = source.as<bf16_t>() + at.sample * source.stride[0] - first;
  const int64_t plane = b.plane_elements();
  for (int64_t i = 0; i < b.piece_height + 2 * b.border; ++i) {
    const int64_t y = at.y + i - b.border;
    if (y < 0 || y >= b.height) continue;
    const bf16_t* line = sample + source_pixel(y, source.shape[1], b.height) * source.stride[1];
    for (int64_t j = 0; j < b.line; ++j) {
      const int64_t x = at.x + j - b.border;
      if (x < 0 || x >= b.width) continue;
      const bf16_t* pixel = line + source_pixel(x, source.shape[2], b.width) * source.stride[2];
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
          const int64_t column = source_pixel(left, source.shape[2], b_.width);
          run_ = reinterpret_cast<const char*>(source.as<bf16_t>() + at.sample * source.stride[0] +
                                               source_pixel(y, source.shape[1], b_.height) * source.stride[1] +
                                               column * source.stride[2] + begin - first);
          pixels_ = source_pixel(right, source.shape[2], b_.width) - column + 1;
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

}  // namespace
}  // namespace darkroom::direct_on_amx

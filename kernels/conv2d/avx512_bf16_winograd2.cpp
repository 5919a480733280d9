// conv2d by Winograd's F(2×2, 3×3) with products of bf16 and f32 sums (AVX512-BF16): 2.25 times fewer multiplications;
// winograd2_avx512.h has the algorithm and its error.
//
//   for each block of up to 126 tiles (of one sample, or several whole ones):
//     V [k-block][16][tiles][kc]      the input's transform in bf16, shared by the team
//     for each 32 output channels:    the members share them
//       for each k-block:
//         U [16][kc / 2][32][2]       the weights' transform: made here, used for all tiles, then forgotten
//         M [16][tiles][32] += V · U  16 products by the GEMM core's 14 × 32 tile
//       the output's transform, epilogue, store
//
// Weights stay as small as they are in bf16, [panel][C / 2][9][32][2]; transformed they would take 16/9 of that.
// The numbers: M (258 KB) and U (328 KB at kc = 320) lie in L2, V (1.3 MB a k-block) in L3, read at 2 bytes a cycle. Modelled,
// not measured, for 126 tiles of 320 channels to 32: 645,000 cycles of products, 22,000 of U, 8,000 for the output,
// and 40,000 for the input divided by the panels that share it.
//
// Moments of what is stored (slab_moments.h): a slab is what a block has of a sample.
//
// Same bits: a sum runs over the k-blocks, in order, and kc follows from the channels alone.
#include "kernels/conv2d/slab_moments.h"
#include "kernels/conv2d/winograd2_avx512.h"
#include "kernels/core/gemm_tile_avx512.h"
#include "kernels/core/reject.h"
#include "kernels/core/simd_avx512_bf16.h"

namespace darkroom::kernels {
namespace {

using namespace winograd2;
using gemm_avx512::kMr;  // tiles of a register tile
using gemm_avx512::kNr;  // and output channels
using gemm_frame::ceil_div;
using gemm_frame::even_block;
using gemm_frame::round_up;
using gemm_frame::smaller;

constexpr int64_t kMaxKc = 320;
constexpr int64_t kMaxBlock = 9 * kMr;  // tiles of a block

struct Pairs {
  using Cell = bf16_t;
  using Sum = float;
  using Vector = __m512;
  static constexpr int64_t kGroup = 2, kLda = kMaxKc + 32;  // 11 cache lines, odd, spreads the sets

  static __m512 zero() { return _mm512_setzero_ps(); }
  static __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
  static __m512i broadcast(const bf16_t* p) { return simd512::broadcast_pair(p); }
  static __m512i load_weights(const bf16_t* p) { return _mm512_loadu_si512(p); }
  static __m512 multiply_add(__m512 sums, __m512i a, __m512i w) { return simd512::dot_bf16(sums, a, w); }
};

struct Blocking {
  int64_t C, N;
  int64_t tiles_y, tiles_x, of_sample;
  int64_t samples;
  int64_t panels;  // of 32 output channels
  int64_t kc, k_blocks;
  int64_t block;  // tiles of a block, at most
  int64_t sample_blocks,
      block_samples;  // blocks that a sample is cut into, or samples that a block has; one of them is 1

  int64_t blocks() const { return sample_blocks * ceil_div(samples, block_samples); }

  int64_t v_cells() const { return k_blocks * kPoints * block * Pairs::kLda; }
  int64_t u_cells() const { return kPoints * kc * kNr; }
  int64_t m_floats() const { return kPoints * round_up(block, kMr) * kNr; }
  int64_t member_bytes() const { return u_cells() * int64_t(sizeof(bf16_t)) + m_floats() * int64_t(sizeof(float)); }
  int64_t panel_cells() const { return round_up(C, 2) * kTaps * kNr; }
};

Blocking blocking_of(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  Blocking b;
  b.C = weight.shape[1];
  b.N = weight.shape[0];
  b.tiles_y = ceil_div(call.out.shape[1], kTile);
  b.tiles_x = ceil_div(call.out.shape[2], kTile);
  b.of_sample = b.tiles_y * b.tiles_x;
  b.samples = call.out.shape[0];
  b.panels = ceil_div(b.N, kNr);
  b.kc = even_block(b.C, kMaxKc, 16);
  b.k_blocks = ceil_div(b.C, b.kc);
  b.block_samples = b.of_sample > kMaxBlock ? 1 : even_block(b.samples, kMaxBlock / b.of_sample, 1);
  b.block = b.of_sample > kMaxBlock ? even_block(b.of_sample, kMaxBlock, 1) : b.block_samples * b.of_sample;
  b.sample_blocks = b.of_sample > kMaxBlock ? ceil_div(b.of_sample, b.block) : 1;
  return b;
}

// Where a tile of the output lies.
struct Place {
  int64_t sample, y, x;
};
Place place_of(const Blocking& b, int64_t tile) {
  return {tile / b.of_sample, tile / b.tiles_x % b.tiles_y * kTile, tile % b.tiles_x * kTile};
}

using Slab = slab_moments::Slab<simd512::Lanes, kNr>;

struct Convolution {
  const KernelCall& call;
  const Blocking b;
  bf16_t* v;  // of the team
  bf16_t* u;  // of this member
  float* m;

  Convolution(const KernelCall& c, const Team& team) : call(c), b(blocking_of(c)) {
    v = static_cast<bf16_t*>(call.scratch);
    char* mine = reinterpret_cast<char*>(v + b.v_cells()) + team.index * b.member_bytes();
    m = reinterpret_cast<float*>(mine);
    u = reinterpret_cast<bf16_t*>(m + b.m_floats());
  }

  void run(const Team& team) const;
  template <typename T>
  void transform_tile(const TensorView& x, int64_t first_channel, const Place& at, int64_t tile) const;
  void transform_weights(int64_t panel, int64_t k_block) const;
  template <typename Out>
  void store(int64_t first, int64_t count, int64_t panel, int64_t slab_of_sample) const;
};

// V of one tile of the block, for the channels of one source.
template <typename T>
void Convolution::transform_tile(const TensorView& x, int64_t first_channel, const Place& at, int64_t tile) const {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  const int64_t height = attrs.upsample_height > 0 ? attrs.upsample_height : x.shape[1];
  const int64_t width = attrs.upsample_width > 0 ? attrs.upsample_width : x.shape[2];
  const T* pixel[16];
  for (int64_t i = 0; i < 16; ++i) {
    const int64_t row = at.y - attrs.pad_top + i / 4, column = at.x - attrs.pad_left + i % 4;
    pixel[i] = nullptr;
    if (row >= 0 && row < height && column >= 0 && column < width)
      pixel[i] = x.as<T>() + at.sample * x.stride[0] + row * x.shape[1] / height * x.stride[1] +
                 column * x.shape[2] / width * x.stride[2];
  }
  for (int64_t c = 0; c < x.shape[3];) {
    const int64_t to = first_channel + c, k_block = to / b.kc;
    const int64_t n = smaller(smaller(16, x.shape[3] - c), (k_block + 1) * b.kc - to);
    const __mmask16 part = simd512::first(n);
    __m512 d[16], t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) d[i] = pixel[i] ? simd512::load(pixel[i] + c, part) : _mm512_setzero_ps();
    transform_input(d, t);
    bf16_t* cells = v + (k_block * kPoints * b.block + tile) * Pairs::kLda + to % b.kc;
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) simd512::store_operand(cells + i * b.block * Pairs::kLda, t[i], part);
    c += n;
  }
}

// U of one panel and k-block, two inputs at a time.
void Convolution::transform_weights(int64_t panel, int64_t k_block) const {
  const bf16_t* from = static_cast<const bf16_t*>(call.packed) + panel * b.panel_cells() + k_block * b.kc * kTaps * kNr;
  const int64_t depth = round_up(smaller(b.kc, b.C - k_block * b.kc), 2);
  const __m512i upper = _mm512_set1_epi32(int(0xffff0000));
  for (int64_t c = 0; c < depth; c += 2, from += 2 * kTaps * kNr)
    for (int64_t half = 0; half < kNr; half += 16) {
      __m512 even[9], odd[9], even_u[16], odd_u[16];
#pragma GCC unroll 9
      for (int tap = 0; tap < 9; ++tap) {
        const __m512i pairs = _mm512_loadu_si512(from + (tap * kNr + half) * 2);
        even[tap] = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
        odd[tap] = _mm512_castsi512_ps(_mm512_and_si512(pairs, upper));
      }
      transform_weight(even, even_u);
      transform_weight(odd, odd_u);
#pragma GCC unroll 16
      for (int p = 0; p < 16; ++p)
        _mm512_storeu_si512(u + (p * b.kc + c) * kNr + 2 * half, simd512::pair_operands(even_u[p], odd_u[p]));
    }
}

// The output's transform and the epilogue (epilogue.h) for tiles [first, first + count), the block, and one panel; the block is slab
// `slab_of_sample` of its samples.
template <typename Out>
void Convolution::store(int64_t first, int64_t count, int64_t panel, int64_t slab_of_sample) const {
  const TensorView& out = call.out;
  const TensorView &bias = call.in[Conv2dAttrs::kBias], &row_bias = call.in[Conv2dAttrs::kRowBias],
                   &residual = call.in[Conv2dAttrs::kResidual];
  const Activation activation = call.attributes<Conv2dAttrs>().epilogue.activation;
  const int64_t point = round_up(b.block, kMr) * kNr;
  const bool with_moments = call.moments.present();
  Slab slab;
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place_of(b, first + t);
    const int64_t pixels = smaller(kTile, out.shape[1] - at.y) * smaller(kTile, out.shape[2] - at.x);
    if (with_moments && (t == 0 || (first + t) % b.of_sample == 0)) slab.begin();
    if (with_moments) slab.begin_piece(pixels);
    for (int64_t n = panel * kNr; n < smaller((panel + 1) * kNr, b.N); n += 16) {
      const __mmask16 part = simd512::first(b.N - n);
      __m512 pixel[4];
      transform_output(m + t * kNr + n % kNr, point, pixel);
      __m512 added = _mm512_setzero_ps();
      if (bias.present()) added = simd512::load(bias.as<float>() + n, part);
      if (row_bias.present())
        added = _mm512_add_ps(added, simd512::load(row_bias.as<float>() + at.sample * row_bias.stride[0] + n, part));
      slab_moments::PieceSums<simd512::Lanes> moments(added);
      for (int64_t i = 0; i < 4; ++i) {
        const int64_t y = at.y + i / 2, x = at.x + i % 2;
        if (y >= out.shape[1] || x >= out.shape[2]) continue;
        const auto offset = [&](const TensorView& to) {
          return at.sample * to.stride[0] + y * to.stride[1] + x * to.stride[2] + n;
        };
        __m512 value = simd512::activate(activation, _mm512_add_ps(pixel[i], added));
        if (residual.present())
          value = _mm512_add_ps(value, simd512::load(residual.as<Out>() + offset(residual), part));
        Out* to = out.as<Out>() + offset(out);
        simd512::store(to, value, part);
        if (!with_moments) continue;
        if (sizeof(Out) < sizeof(float)) value = simd512::load(to, part);
        if (i == 0) moments.origin = value;
        moments.add(0, value);
      }
      if (with_moments) slab.add(n % kNr, moments.of(pixels));
    }
    if (with_moments && (t + 1 == count || (first + t + 1) % b.of_sample == 0))
      slab.write(call.moments, at.sample, slab_of_sample, panel * kNr);
  }
}

void Convolution::run(const Team& team) const {
  const TensorView &x = call.in[Conv2dAttrs::kX], &x2 = call.in[Conv2dAttrs::kX2];
  for (int64_t block = 0; block < b.blocks(); ++block) {
    const int64_t slab = block % b.sample_blocks, sample = block / b.sample_blocks * b.block_samples;
    const int64_t from = sample * b.of_sample + slab * b.block;
    const int64_t end = smaller(sample + b.block_samples, b.samples) * b.of_sample;
    const int64_t count = smaller(b.block, end - from), groups = ceil_div(count, kMr);
    const auto [tile_begin, tile_end] = team.range(count);
    for (int64_t t = tile_begin; t < tile_end; ++t) {
      const Place at = place_of(b, from + t);
      transform_tile<bf16_t>(x, 0, at, t);
      if (x2.present()) transform_tile<bf16_t>(x2, x.shape[3], at, t);
      if (b.C % 2 == 0) continue;
      // The second half of the last pair: its weights are zero, and so must this be.
      bf16_t* cells = v + ((b.k_blocks - 1) * kPoints * b.block + t) * Pairs::kLda + b.C % b.kc;
      for (int64_t p = 0; p < kPoints; ++p) cells[p * b.block * Pairs::kLda] = {0};
    }
    team.sync();
    const auto [panel_begin, panel_end] = team.range(b.panels);
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      for (int64_t k_block = 0; k_block < b.k_blocks; ++k_block) {
        const int64_t depth = round_up(smaller(b.kc, b.C - k_block * b.kc), 2);
        transform_weights(panel, k_block);
        for (int64_t p = 0; p < kPoints; ++p)
          for (int64_t g = 0; g < groups; ++g) {
            const int64_t tile = g * kMr;
            gemm_avx512::micro_kernel_of<bf16_t, Pairs>(smaller(kMr, count - tile))(
                v + ((k_block * kPoints + p) * b.block + tile) * Pairs::kLda, u + p * b.kc * kNr, depth,
                m + (p * round_up(b.block, kMr) + tile) * kNr, k_block > 0);
          }
      }
      call.out.dtype == DType::bf16 ? store<bf16_t>(from, count, panel, slab) : store<float>(from, count, panel, slab);
    }
    team.sync();  // V is about to be overwritten
  }
}

const char* reject(const KernelCall& call) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (attrs.kernel != 3 || attrs.stride != 1) return "only 3×3 with stride 1";
  if (attrs.int8) return "products of int8 are asked for";
  if (attrs.epilogue.geglu) return "no geglu in the output transform";
  if (call.in[Conv2dAttrs::kX].dtype != DType::bf16 || (x2.present() && x2.dtype != DType::bf16))
    return "x and x2 must be bf16";
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  if (!is_weight_type(weight.dtype)) return "the weight must be f32, f16 or bf16";
  if (weight.shape[0] < kNr || weight.shape[1] < kNr) return "too few channels for the transforms to pay";
  return nullptr;
}

size_t scratch_bytes(const KernelCall& call, int team) {
  const Blocking b = blocking_of(call);
  return size_t(b.v_cells()) * sizeof(bf16_t) + size_t(team) * size_t(b.member_bytes());
}

size_t weight_bytes(const KernelCall& call) {
  const Blocking b = blocking_of(call);
  return size_t(b.panels * b.panel_cells()) * sizeof(bf16_t);
}

// [panel][C / 2][9][32][2] in bf16; what is beyond C or N is zero.
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const Blocking b = blocking_of(call);
  const auto [first, last] = team.range(b.panels);
  for (int64_t panel = first; panel < last; ++panel) {
    bf16_t* to = static_cast<bf16_t*>(packed) + panel * b.panel_cells();
    memset(to, 0, size_t(b.panel_cells()) * sizeof(bf16_t));
    for (int64_t lane = 0; lane < smaller(kNr, b.N - panel * kNr); ++lane) {
      int64_t n = panel * kNr + lane;
      size_t part = 0;
      while (part + 1 < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
      for (int64_t c = 0; c < b.C; ++c)
        for (int64_t tap = 0; tap < kTaps; ++tap)
          gemm_frame::convert_element(parts[part].data, parts[part].dtype, (n * b.C + c) * kTaps + tap, to, DType::bf16,
                                      ((c / 2 * kTaps + tap) * kNr + lane) * 2 + c % 2);
    }
  }
  team.sync();
}

// By parts, modelled: products at 32 a cycle, the three transforms at about 2 instructions a cycle.
double cycles(const KernelCall& call) {
  const Blocking b = blocking_of(call);
  const double tiles = double(b.tiles_y * b.tiles_x), C = double(b.C), N = double(b.panels * kNr);
  const double products = tiles * double(kPoints) * C * N / 32 / 0.85;
  const double inputs = tiles * C / 16 * 50, outputs = tiles * N / 16 * 50;
  const double weights = C * N / 32 * 70 * (tiles > double(kMaxBlock) ? tiles / double(kMaxBlock) : 1.0);
  return products + inputs + outputs + weights;
}

// Whole samples in a block are a slab each.
int64_t moments_slabs(const KernelCall& call) { return blocking_of(call).sample_blocks; }

void launch(const KernelCall& call, const Team& team) { Convolution(call, team).run(team); }

}  // namespace

extern const KernelDef conv2d_avx512_bf16_winograd2;
const KernelDef conv2d_avx512_bf16_winograd2 = {
    .op = OpKind::conv2d,
    .variant = "avx512_bf16_winograd2",
    .isa = Isa::avx512_bf16,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = "bf16_taps_32",
    .packed_bytes = weight_bytes,
    .pack = pack,
    .launch = launch,
    .cycles = cycles,
    .moments_slabs = moments_slabs,
    .inexact = true,
};

}  // namespace darkroom::kernels

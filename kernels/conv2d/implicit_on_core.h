// conv2d as an implicit GEMM on any core of the frame (core/gemm_frame.h): rows are output pixels, K runs over (ky, kx, c),
// and the prologue gathers from the picture what im2col would have written: a run of channels per pixel and tap. No buffer
// but the core's block in L2; the nine taps of a 3×3 window find their pixels in the caches.
#pragma once

#include "kernels/conv2d/attributes.h"
#include "kernels/conv2d/slab_moments.h"
#include "kernels/core/gemm_int8.h"
#include "kernels/core/reject.h"

namespace darkroom::implicit_on_core {

using namespace gemm_frame;
using namespace gemm_int8;

template <typename Core>
struct Source {
  TensorView view;
  int64_t first_channel = 0, channels = 0;  // its place in the concat of both sources
  int64_t sample[Core::kMaxMc];             // element offset of each row's sample
};

template <typename TheCore>
struct PixelWindows {
  using Core = TheCore;
  int kernel, stride, pad_top, pad_left;
  int64_t height, width;                    // of the source
  int64_t enlarged_height, enlarged_width;  // what padding and taps see
  int64_t out_height, out_width;
  int64_t channels;  // of both sources
  int sources;
  Source<Core> source[2];
  TensorView moments;  // of the output, or absent
  int64_t rows;
  int64_t top[Core::kMaxMc], left[Core::kMaxMc];  // of each row's window, in the enlarged picture; may be negative
};

template <typename Core>
static void begin(PixelWindows<Core>& p, int64_t first, int64_t rows) {
  p.rows = rows;
  int64_t x = first % p.out_width, y = first / p.out_width % p.out_height, b = first / p.out_width / p.out_height;
  for (int64_t r = 0; r < rows; ++r) {
    p.top[r] = y * p.stride - p.pad_top;
    p.left[r] = x * p.stride - p.pad_left;
    for (int s = 0; s < p.sources; ++s) p.source[s].sample[r] = b * p.source[s].view.stride[0];
    if (++x < p.out_width) continue;
    x = 0;
    if (++y < p.out_height) continue;
    y = 0;
    ++b;
  }
}

// A 1×1 convolution's rows are the picture's pixels.
template <typename Core>
static LyingRows lying_rows(const PixelWindows<Core>& p) {
  const TensorView& x = p.source[0].view;
  if (p.kernel != 1 || p.stride != 1 || p.pad_top != 0 || p.pad_left != 0 || p.sources > 1 ||
      p.height != p.out_height || p.width != p.out_width || !x.rows_uniform())
    return {};
  return {x.as<char>(), x.row_stride() * int64_t(dtype_size(x.dtype)), x.dtype};
}

// Moments (slab_moments.h): a slab is a tile's rows, where samples are whole tiles. 0: it leaves none.
template <typename Core>
static int64_t moments_slabs(const KernelCall& call) {
  const int64_t pixels = call.out.shape[1] * call.out.shape[2];
  return call.attributes<Conv2dAttrs>().epilogue.geglu || pixels % Core::kMr != 0 ? 0 : pixels / Core::kMr;
}
template <typename Core, typename Out>
static void leave_moments(const TensorView& moments, const Store& s, const RowTable<Core>& table, int64_t first,
                          int64_t row, int64_t rows, int64_t panel) {
  const int64_t n = panel * Core::kNr, slab_of_all = (first + row) / Core::kMr;
  slab_moments::Slab<typename Core::Lanes, Core::kNr> slab;
  slab.begin();
  slab_moments::add_pixels(slab, rows, moments.channels() - n,
                           [&](int64_t i) { return s.out.as<Out>() + table.out[row + i] + n; });
  slab.write(moments, slab_of_all / moments.shape[1], slab_of_all % moments.shape[1], n);
}
template <typename Core>
static void tile_stored(const PixelWindows<Core>& p, const Store& s, const RowTable<Core>& table, int64_t first,
                        int64_t row, int64_t rows, int64_t panel) {
  if constexpr (requires { typename Core::Lanes; }) {
    if (!p.moments.present()) return;
    if (s.out.dtype == DType::bf16)
      leave_moments<Core, bf16_t>(p.moments, s, table, first, row, rows, panel);
    else
      leave_moments<Core, float>(p.moments, s, table, first, row, rows, panel);
  }
}

// In int8, with the scale of each row's sample.
template <typename Core>
struct QuantizedWindows : PixelWindows<Core> {
  Channels channels_of_weight;
  const RowScale* samples;
  int64_t pixels;  // of a sample's output
  float factor[Core::kMaxMc], scale[Core::kMaxMc];
};
template <typename Core>
static void begin(QuantizedWindows<Core>& p, int64_t first, int64_t rows) {
  begin(static_cast<PixelWindows<Core>&>(p), first, rows);
  for (int64_t r = 0; r < rows; ++r) {
    const RowScale& s = p.samples[(first + r) / p.pixels];
    p.factor[r] = s.factor;
    p.scale[r] = s.scale;
  }
}
template <typename Core>
static const float* finish_sums(const QuantizedWindows<Core>& p, int32_t* tile, int64_t row, int64_t rows,
                                int64_t panel) {
  return Core::scale_tile(tile, rows, p.scale + row, p.channels_of_weight.scale + panel * Core::kNr,
                          p.channels_of_weight.correction + panel * Core::kNr);
}

// A run of channels for row r of the block.
template <typename Core, typename T>
static void copy_run(const PixelWindows<Core>&, int64_t, const T* from, int64_t n, typename Core::Cell* to) {
  Core::copy(from, n, to);
}
template <typename Core, typename T>
static void copy_run(const QuantizedWindows<Core>& p, int64_t r, const T* from, int64_t n, typename Core::Cell* to) {
  Core::quantize(from, n, p.factor[r], to);
}
template <typename Core>
static void zero_run(typename Core::Cell* to, int64_t n) {
  if constexpr (kInt8<Core>)
    for (int64_t i = 0; i < n; ++i) to[i] = typename Core::Cell(Core::kOffset);
  else
    memset(to, 0, size_t(n) * sizeof(typename Core::Cell));
}

// Channels [c, c + n) of one source at tap (ky, kx) for all rows of the block.
template <typename T, typename Windows, typename Core>
static void gather_tap(const Windows& p, const Source<Core>& s, int64_t ky, int64_t kx, int64_t c, int64_t n,
                       typename Core::Cell* block) {
  const T* data = static_cast<const T*>(s.view.data) + c;
  for (int64_t r = 0; r < p.rows; ++r, block += Core::kLda) {
    const int64_t y = p.top[r] + ky, x = p.left[r] + kx;
    if (y < 0 || y >= p.enlarged_height || x < 0 || x >= p.enlarged_width) {
      zero_run<Core>(block, n);
      continue;
    }
    const int64_t pixel = source_pixel(y, p.height, p.enlarged_height) * s.view.stride[1] +
                          source_pixel(x, p.width, p.enlarged_width) * s.view.stride[2];
    copy_run(p, r, data + s.sample[r] + pixel, n, block);
  }
}

template <typename Windows>
static void gather(const Windows& p, int64_t k_begin, int64_t k_end, typename Windows::Core::Cell* block) {
  using Core = typename Windows::Core;
  for (int64_t k = k_begin; k < k_end;) {
    const int64_t tap = k / p.channels, c = k % p.channels;
    const Source<Core>& s = p.source[c >= p.source[0].channels ? 1 : 0];
    const int64_t n = smaller(k_end - k, s.first_channel + s.channels - c);
    const int64_t ky = tap / p.kernel, kx = tap % p.kernel;
    if (s.view.dtype == DType::bf16)
      gather_tap<bf16_t>(p, s, ky, kx, c - s.first_channel, n, block + (k - k_begin));
    else
      gather_tap<float>(p, s, ky, kx, c - s.first_channel, n, block + (k - k_begin));
    k += n;
  }
}

static inline int64_t depth(const TensorView& weight) { return weight.shape[1] * weight.shape[2] * weight.shape[3]; }

template <typename Core>
static const char* reject(const KernelCall& call) {
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (!is_activation_type(call.in[Conv2dAttrs::kX].dtype) || !is_activation_type(call.out.dtype) ||
      (x2.present() && !is_activation_type(x2.dtype)))
    return "x, x2 and out must be f32 or bf16";
  if (!is_weight_type(call.in[Conv2dAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  if (call.attributes<Conv2dAttrs>().int8 != kInt8<Core>)
    return kInt8<Core> ? "products of int8 are not asked for" : "products of int8 are asked for";
  if (kInt8<Core> && depth(call.in[Conv2dAttrs::kWeight]) > kMaxDepth) return "sums of int8 could overflow";
  return nullptr;
}

// In int8 the members' maxima of each sample and then the scales lie before the blocks.
template <typename Core>
static size_t scales_bytes(const KernelCall& call, int team) {
  if (!kInt8<Core>) return 0;
  const size_t samples = size_t(call.in[Conv2dAttrs::kX].shape[0]);
  return size_t(round_up(int64_t(samples * (size_t(team) * sizeof(uint32_t) + size_t(team) * sizeof(RowScale))), 64));
}

template <typename Core>
static size_t scratch_bytes(const KernelCall& call, int team) {
  return scales_bytes<Core>(call, team) +
         size_t(team) * scratch_bytes_per_member<Core>(depth(call.in[Conv2dAttrs::kWeight]));
}

template <typename Core>
static size_t weight_bytes(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const bool geglu = call.attributes<Conv2dAttrs>().epilogue.geglu;
  if constexpr (kInt8<Core>) return packed_bytes_int8<Core>(weight.shape[0], depth(weight), geglu, weight.dtype);
  return packed_bytes<Core>(weight.shape[0], depth(weight), geglu, weight.dtype);
}

template <typename Core>
static void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const bool geglu = call.attributes<Conv2dAttrs>().epilogue.geglu;
  const int64_t taps = weight.shape[2] * weight.shape[3];
  if constexpr (kInt8<Core>)
    pack_panels_int8<Core>(parts, weight.shape[0], weight.shape[1], taps, geglu, weight.dtype, packed, team);
  else
    pack_panels<Core>(parts, weight.shape[0], weight.shape[1], taps, geglu, weight.dtype, packed, team);
}

// The largest magnitude of this member's part of a sample, as bits.
template <typename Core, typename T>
static uint32_t part_max(const TensorView& x, int64_t sample, const Team& team, uint32_t max) {
  const auto [first, last] = team.range(x.shape[1]);
  for (int64_t y = first; y < last; ++y)
    for (int64_t column = 0; column < x.shape[2]; ++column)
      max = Core::max_bits(x.as<T>() + sample * x.stride[0] + y * x.stride[1] + column * x.stride[2], x.shape[3], max);
  return max;
}

// The scales of all samples, found by the team; each member's own copy.
template <typename Core>
static const RowScale* sample_scales(const KernelCall& call, const Team& team) {
  const int64_t samples = call.in[Conv2dAttrs::kX].shape[0];
  uint32_t* maxima = static_cast<uint32_t*>(call.scratch);
  for (int64_t b = 0; b < samples; ++b) {
    uint32_t max = 0;
    for (int slot : {Conv2dAttrs::kX, Conv2dAttrs::kX2}) {
      const TensorView& x = call.in[slot];
      if (x.dtype == DType::bf16) max = part_max<Core, bf16_t>(x, b, team, max);
      if (x.dtype == DType::f32) max = part_max<Core, float>(x, b, team, max);
    }
    maxima[team.index * samples + b] = max;
  }
  team.sync();
  RowScale* scales = reinterpret_cast<RowScale*>(maxima + team.count * samples) + team.index * samples;
  for (int64_t b = 0; b < samples; ++b) {
    uint32_t max = 0;
    for (int member = 0; member < team.count; ++member)
      if (const uint32_t m = maxima[member * samples + b]; m > max) max = m;
    scales[b] = row_scale(max);
  }
  return scales;
}

template <typename Core>
static void fill_windows(const KernelCall& call, PixelWindows<Core>& windows) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  const TensorView& x = call.in[Conv2dAttrs::kX];
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  windows.kernel = attrs.kernel;
  windows.stride = attrs.stride;
  windows.pad_top = attrs.pad_top;
  windows.pad_left = attrs.pad_left;
  windows.height = x.shape[1];
  windows.width = x.shape[2];
  windows.enlarged_height = attrs.upsample_height > 0 ? attrs.upsample_height : x.shape[1];
  windows.enlarged_width = attrs.upsample_width > 0 ? attrs.upsample_width : x.shape[2];
  windows.out_height = call.out.shape[1];
  windows.out_width = call.out.shape[2];
  windows.channels = weight.shape[1];
  windows.sources = x2.present() ? 2 : 1;
  windows.source[0].view = x;
  windows.source[0].channels = x.shape[3];
  windows.source[1].view = x2;
  windows.source[1].first_channel = x.shape[3];
  windows.source[1].channels = weight.shape[1] - x.shape[3];
}

template <typename Core>
static void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const Product product = {.m = call.out.shape.rows(),
                           .k = depth(weight),
                           .panels = panels_of<Core>(weight.shape[0], attrs.epilogue.geglu),
                           .weight = call.packed,
                           .weight_type = weight.dtype};
  const Store store = {.out = call.out,
                       .bias = call.in[Conv2dAttrs::kBias],
                       .row_bias = call.in[Conv2dAttrs::kRowBias],
                       .residual = call.in[Conv2dAttrs::kResidual],
                       .rows_per_sample = call.out.shape[1] * call.out.shape[2],
                       .activation = attrs.epilogue.activation,
                       .geglu = attrs.epilogue.geglu};
  if constexpr (kInt8<Core>) {
    QuantizedWindows<Core> windows;
    fill_windows(call, windows);
    windows.channels_of_weight = channels_of<Core>(product.weight, product.panels, product.k, product.weight_type);
    windows.samples = sample_scales<Core>(call, team);
    windows.pixels = store.rows_per_sample;
    run<Core>(product, store, windows, static_cast<char*>(call.scratch) + scales_bytes<Core>(call, team.count), team);
  } else {
    PixelWindows<Core> windows;
    fill_windows(call, windows);
    windows.moments = call.moments;
    run<Core>(product, store, windows, call.scratch, team);
  }
}

}  // namespace darkroom::implicit_on_core

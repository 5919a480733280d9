// conv2d as an implicit GEMM on any core of the frame (core/gemm_frame.h): rows are output pixels, K runs over (ky, kx, c),
// and the prologue gathers from the picture what im2col would have written: a run of channels per pixel and tap. No buffer
// but the core's block in L2; the nine taps of a 3×3 window find their pixels in the caches.
#pragma once

#include "kernels/core/gemm_frame.h"
#include "kernels/core/reject.h"

namespace darkroom::implicit_on_core {

using namespace gemm_frame;

template <typename Core>
struct Source {
  TensorView view;
  int64_t first_channel = 0, channels = 0;  // its place in the concat of both sources
  int64_t sample[Core::kMaxMc];             // element offset of each row's sample
};

template <typename Core>
struct PixelWindows {
  int kernel, stride, pad_top, pad_left;
  int64_t height, width;                    // of the source
  int64_t enlarged_height, enlarged_width;  // what padding and taps see
  int64_t out_height, out_width;
  int64_t channels;  // of both sources
  int sources;
  Source<Core> source[2];
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

// Pixel i of an enlarged line, in the source. Doubling, the usual case, spares the division.
static inline int64_t shrink(int64_t i, int64_t size, int64_t enlarged) {
  if (size == enlarged) return i;
  if (2 * size == enlarged) return i >> 1;
  return i * size / enlarged;
}

// Channels [c, c + n) of one source at tap (ky, kx) for all rows of the block.
template <typename T, typename Core>
static void gather_tap(const PixelWindows<Core>& p, const Source<Core>& s, int64_t ky, int64_t kx, int64_t c, int64_t n,
                       typename Core::Cell* block) {
  const T* data = static_cast<const T*>(s.view.data) + c;
  for (int64_t r = 0; r < p.rows; ++r, block += Core::kLda) {
    const int64_t y = p.top[r] + ky, x = p.left[r] + kx;
    if (y < 0 || y >= p.enlarged_height || x < 0 || x >= p.enlarged_width) {
      memset(block, 0, size_t(n) * sizeof(typename Core::Cell));
      continue;
    }
    const int64_t pixel = shrink(y, p.height, p.enlarged_height) * s.view.stride[1] +
                          shrink(x, p.width, p.enlarged_width) * s.view.stride[2];
    Core::copy(data + s.sample[r] + pixel, n, block);
  }
}

template <typename Core>
static void gather(const PixelWindows<Core>& p, int64_t k_begin, int64_t k_end, typename Core::Cell* block) {
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

template <typename Core>
static const char* reject(const KernelCall& call) {
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (!is_activation_type(call.in[Conv2dAttrs::kX].dtype) || !is_activation_type(call.out.dtype) ||
      (x2.present() && !is_activation_type(x2.dtype)))
    return "x, x2 and out must be f32 or bf16";
  if (!is_weight_type(call.in[Conv2dAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  return nullptr;
}

static inline int64_t depth(const TensorView& weight) { return weight.shape[1] * weight.shape[2] * weight.shape[3]; }

template <typename Core>
static size_t scratch_bytes(const KernelCall& call, int team) {
  return size_t(team) * scratch_bytes_per_member<Core>(depth(call.in[Conv2dAttrs::kWeight]));
}

template <typename Core>
static size_t weight_bytes(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  return packed_bytes<Core>(weight.shape[0], depth(weight), call.attributes<Conv2dAttrs>().epilogue.geglu,
                            weight.dtype);
}

template <typename Core>
static void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  pack_panels<Core>(parts, weight.shape[0], weight.shape[1], weight.shape[2] * weight.shape[3],
                    call.attributes<Conv2dAttrs>().epilogue.geglu, weight.dtype, packed, team);
}

template <typename Core>
static void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  const TensorView& x = call.in[Conv2dAttrs::kX];
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const int64_t out_height = call.out.shape[1], out_width = call.out.shape[2];

  PixelWindows<Core> windows;
  windows.kernel = attrs.kernel;
  windows.stride = attrs.stride;
  windows.pad_top = attrs.pad_top;
  windows.pad_left = attrs.pad_left;
  windows.height = x.shape[1];
  windows.width = x.shape[2];
  windows.enlarged_height = attrs.upsample_height > 0 ? attrs.upsample_height : x.shape[1];
  windows.enlarged_width = attrs.upsample_width > 0 ? attrs.upsample_width : x.shape[2];
  windows.out_height = out_height;
  windows.out_width = out_width;
  windows.channels = weight.shape[1];
  windows.sources = x2.present() ? 2 : 1;
  windows.source[0].view = x;
  windows.source[0].channels = x.shape[3];
  windows.source[1].view = x2;
  windows.source[1].first_channel = x.shape[3];
  windows.source[1].channels = weight.shape[1] - x.shape[3];

  const Product product = {.m = call.out.shape.rows(),
                           .k = depth(weight),
                           .panels = panels_of<Core>(weight.shape[0], attrs.epilogue.geglu),
                           .weight = call.packed,
                           .weight_type = weight.dtype};
  const Store store = {.out = call.out,
                       .bias = call.in[Conv2dAttrs::kBias],
                       .row_bias = call.in[Conv2dAttrs::kRowBias],
                       .residual = call.in[Conv2dAttrs::kResidual],
                       .rows_per_sample = out_height * out_width,
                       .activation = attrs.epilogue.activation,
                       .geglu = attrs.epilogue.geglu};
  run<Core>(product, store, windows, call.scratch, team);
}

}  // namespace darkroom::implicit_on_core

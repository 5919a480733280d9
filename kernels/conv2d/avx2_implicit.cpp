// conv2d on AVX2 as an implicit GEMM: rows are output pixels, K runs over (ky, kx, c), and the prologue of the shared core
// (gemm_core_avx2.h) gathers from the picture what im2col would have written: a run of channels per pixel and tap. No
// buffer but the core's block in L2; the nine taps of a 3×3 window find their pixels in the caches.
#include "kernels/core/gemm_core_avx2.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

using namespace gemm_avx2;

struct Source {
  TensorView view;
  int64_t first_channel = 0, channels = 0;  // its place in the concat of both sources
  int64_t sample[kMaxMc];                   // element offset of each row's sample
};

struct PixelWindows {
  int kernel, stride, pad_top, pad_left;
  int64_t height, width;                    // of the source
  int64_t enlarged_height, enlarged_width;  // what padding and taps see
  int64_t out_height, out_width;
  int64_t channels;  // of both sources
  int sources;
  Source source[2];
  int64_t rows;
  int64_t top[kMaxMc], left[kMaxMc];  // of each row's window, in the enlarged picture; may be negative
};

void begin(PixelWindows& p, int64_t first, int64_t rows) {
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
inline int64_t shrink(int64_t i, int64_t size, int64_t enlarged) {
  if (size == enlarged) return i;
  if (2 * size == enlarged) return i >> 1;
  return i * size / enlarged;
}

// Channels [c, c + n) of one source at tap (ky, kx) for all rows of the block.
template <typename T>
void gather_tap(const PixelWindows& p, const Source& s, int64_t ky, int64_t kx, int64_t c, int64_t n, float* block) {
  const T* data = static_cast<const T*>(s.view.data) + c;
  for (int64_t r = 0; r < p.rows; ++r, block += kLda) {
    const int64_t y = p.top[r] + ky, x = p.left[r] + kx;
    if (y < 0 || y >= p.enlarged_height || x < 0 || x >= p.enlarged_width) {
      for (int64_t i = 0; i < n; ++i) block[i] = 0;
      continue;
    }
    const int64_t pixel = shrink(y, p.height, p.enlarged_height) * s.view.stride[1] +
                          shrink(x, p.width, p.enlarged_width) * s.view.stride[2];
    widen(data + s.sample[r] + pixel, block, n);
  }
}

void gather(const PixelWindows& p, int64_t k_begin, int64_t k_end, float* block) {
  for (int64_t k = k_begin; k < k_end;) {
    const int64_t tap = k / p.channels, c = k % p.channels;
    const Source& s = p.source[c >= p.source[0].channels ? 1 : 0];
    const int64_t n = smaller(k_end - k, s.first_channel + s.channels - c);
    const int64_t ky = tap / p.kernel, kx = tap % p.kernel;
    if (s.view.dtype == DType::bf16)
      gather_tap<bf16_t>(p, s, ky, kx, c - s.first_channel, n, block + (k - k_begin));
    else
      gather_tap<float>(p, s, ky, kx, c - s.first_channel, n, block + (k - k_begin));
    k += n;
  }
}

const char* reject(const KernelCall& call) {
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (!is_activation_type(call.in[Conv2dAttrs::kX].dtype) || !is_activation_type(call.out.dtype) ||
      (x2.present() && !is_activation_type(x2.dtype)))
    return "x, x2 and out must be f32 or bf16";
  if (!is_weight_type(call.in[Conv2dAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  return nullptr;
}

int64_t depth(const TensorView& weight) { return weight.shape[1] * weight.shape[2] * weight.shape[3]; }

size_t scratch_bytes(const KernelCall& call, int team) {
  return size_t(team) * scratch_bytes_per_member(depth(call.in[Conv2dAttrs::kWeight]));
}

size_t weight_bytes(const KernelCall& call) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  return packed_bytes(weight.shape[0], depth(weight), call.attributes<Conv2dAttrs>().epilogue.geglu, weight.dtype);
}

void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  pack_panels(parts, weight.shape[0], weight.shape[1], weight.shape[2] * weight.shape[3],
              call.attributes<Conv2dAttrs>().epilogue.geglu, weight.dtype, packed, team);
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  const TensorView& x = call.in[Conv2dAttrs::kX];
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const int64_t out_height = call.out.shape[1], out_width = call.out.shape[2];

  PixelWindows windows;
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
                           .panels = panels_of(weight.shape[0], attrs.epilogue.geglu),
                           .weight = call.packed,
                           .weight_type = weight.dtype};
  const Store store = {.out = call.out,
                       .bias = call.in[Conv2dAttrs::kBias],
                       .row_bias = call.in[Conv2dAttrs::kRowBias],
                       .residual = call.in[Conv2dAttrs::kResidual],
                       .rows_per_sample = out_height * out_width,
                       .activation = attrs.epilogue.activation,
                       .geglu = attrs.epilogue.geglu};
  run(product, store, windows, call.scratch, team);
}

}  // namespace

extern const KernelDef conv2d_avx2_implicit;
const KernelDef conv2d_avx2_implicit = {
    .op = OpKind::conv2d,
    .variant = "avx2_implicit",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = "panels_16",
    .packed_bytes = weight_bytes,
    .pack = pack,
    .launch = launch,
};

}  // namespace darkroom::kernels

// The definition of conv2d and norm_conv2d, in double.
#include "kernels/conv2d/attributes.h"
#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/ref_epilogue.h"
#include "kernels/core/ref_int8.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (!is_activation_type(call.in[Conv2dAttrs::kX].dtype) || !is_activation_type(call.out.dtype) ||
      (x2.present() && !is_activation_type(x2.dtype)))
    return "x, x2 and out must be f32 or bf16";
  if (!is_weight_type(call.in[Conv2dAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  return nullptr;
}

size_t packed_bytes(const KernelCall& call) {
  return size_t(call.in[Conv2dAttrs::kWeight].shape.elements()) * sizeof(float);
}

void pack(const KernelCall&, std::span<const TensorView> parts, void* packed, const Team& team) {
  ref_pack_dense(parts, packed, team);
}

Real normalize(const ConvolutionNorm& norm, int64_t b, int64_t c, Real x) {
  const TensorView& k = norm.coefficients;
  if (!k.present()) return x;
  const int64_t at = b * k.stride[0] + c;
  const Real y = (x - ref_load(k, at)) * ref_load(k, at + k.stride[1]) + ref_load(k, at + 2 * k.stride[1]);
  return ref_activate(norm.activation, y);
}

void launch(const KernelCall& call, const Team& team) {
  const Conv2dAttrs& attrs = conv2d_attributes(call);
  const ConvolutionNorm norm = conv2d_norm(call);
  const TensorView& x = call.in[Conv2dAttrs::kX];
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  const TensorView& weight = call.in[Conv2dAttrs::kWeight];
  const int64_t H = x.shape[1], W = x.shape[2], C1 = x.shape[3], C = weight.shape[1], N = weight.shape[0];
  const int64_t enlarged_h = attrs.upsample_height > 0 ? attrs.upsample_height : H;
  const int64_t enlarged_w = attrs.upsample_width > 0 ? attrs.upsample_width : W;
  const int64_t out_h = call.out.shape[1], out_w = call.out.shape[2];
  const RefEpilogue epilogue = {
      attrs.epilogue, N, call.in[Conv2dAttrs::kBias], call.in[Conv2dAttrs::kRowBias], call.in[Conv2dAttrs::kResidual],
      call.out};
  const float* w = static_cast<const float*>(call.packed);

  const auto pixel_offset = [](const TensorView& v, int64_t b, int64_t y, int64_t x_pos) {
    return b * v.stride[0] + y * v.stride[1] + x_pos * v.stride[2];
  };
  // int8: the whole numbers of a sample, and of a channel's weights.
  const auto whole_sample = [&](int64_t b) {
    Real max = 0;
    for (const TensorView* v : {&x, &x2})
      for (int64_t y = 0; v->present() && y < H; ++y)
        for (int64_t column = 0; column < W; ++column)
          for (int64_t c = 0; c < v->channels(); ++c)
            max = std::fmax(max, std::fabs(ref_load(*v, pixel_offset(*v, b, y, column) + c)));
    return ref_int8(max);
  };
  const auto whole_channel = [&](int64_t n) {
    const int64_t K = C * attrs.kernel * attrs.kernel;
    return ref_int8(K, [&](int64_t k) { return Real(w[n * K + k]); });
  };
  RefInt8 whole_x, whole_w;
  const auto sum_at = [&](int64_t b, int64_t oy, int64_t ox, int64_t n) {
    if (attrs.int8) whole_w = whole_channel(n);
    Real sum = 0;
    for (int64_t ky = 0; ky < attrs.kernel; ++ky)
      for (int64_t kx = 0; kx < attrs.kernel; ++kx) {
        const int64_t iy = oy * attrs.stride + ky - attrs.pad_top, ix = ox * attrs.stride + kx - attrs.pad_left;
        if (iy < 0 || iy >= enlarged_h || ix < 0 || ix >= enlarged_w) continue;
        const int64_t sy = iy * H / enlarged_h, sx = ix * W / enlarged_w;
        const int64_t at1 = pixel_offset(x, b, sy, sx), at2 = x2.present() ? pixel_offset(x2, b, sy, sx) : 0;
        for (int64_t c = 0; c < C; ++c) {
          const Real value = c < C1 ? ref_load(x, at1 + c) : ref_load(x2, at2 + c - C1);
          const Real factor = Real(w[((n * C + c) * attrs.kernel + ky) * attrs.kernel + kx]);
          const Real normal = normalize(norm, b, c, value);
          sum += attrs.int8 ? whole_x(normal) * whole_w(factor) : normal * factor;
        }
      }
    return attrs.int8 ? sum * Real(whole_x.scale * whole_w.scale) : sum;
  };
  const auto [first, last] = team.range(call.out.rows());
  for (int64_t row = first; row < last; ++row) {
    const int64_t b = row / (out_h * out_w), oy = row / out_w % out_h, ox = row % out_w;
    if (attrs.int8 && (row == first || row % (out_h * out_w) == 0)) whole_x = whole_sample(b);
    for (int64_t n = 0; n < epilogue.outputs(); ++n)
      epilogue.store(row, b, n, sum_at(b, oy, ox, n), epilogue.how.geglu ? sum_at(b, oy, ox, n + N / 2) : 0.0);
  }
}

}  // namespace

extern const KernelDef conv2d_ref, norm_conv2d_ref;
const KernelDef conv2d_ref = {
    .op = OpKind::conv2d,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = "dense_f32",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .launch = launch,
};
const KernelDef norm_conv2d_ref = {
    .op = OpKind::norm_conv2d,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = "dense_f32",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .launch = launch,
};

}  // namespace darkroom::kernels

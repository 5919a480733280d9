// conv2d 3×3 of a picture enlarged twice, on tensor cores: four 2×2 convolutions of the picture as it is, one for each place of an
// output pixel in its two by two. Their weights are sums of the nine, made at load: 4 multiplications an output in place of 9.
//
// The kernel is the implicit GEMM of kernels/gemm/sm80_mma.cu, with the four phases side by side in its grid.
// Sums of weights are rounded once more than weights are: KernelDef::inexact.
// Source: Shi et al., Real-Time Single Image and Video Super-Resolution (2016), for the form; the sums as in any nearest-neighbour
// enlargement that is followed by a convolution.
#include "kernels/core/mma_plan.h"

namespace darkroom::kernels {
namespace {

template <DType kType>
const char* reject(const KernelCall& call) {
  const auto& a = call.attributes<Conv2dAttrs>();
  const Shape& x = call.in[Conv2dAttrs::kX].shape;
  if (a.upsample_height != 2 * x[1] || a.upsample_width != 2 * x[2]) return "the picture is not enlarged twice";
  if (a.kernel != 3 || a.stride != 1 || a.pad_top != 1 || a.pad_left != 1 || a.pad_bottom != 1 || a.pad_right != 1)
    return "not a 3x3 convolution with a border of one pixel";
  if (call.in[Conv2dAttrs::kResidual].present() || a.epilogue.geglu) return "it has no residual and no GEGLU";
  return reject_mma(subpixel_call(call), kType);
}
size_t scratch_bytes(const KernelCall& call, int) {
  const GemmCall c = subpixel_call(call);
  return mma_scratch_bytes(c, mma_plan(c));
}
template <DType kType>
size_t packed_bytes(const KernelCall& call) {
  return packed_rows_bytes(subpixel_call(call), kMmaBlock, kType);
}
template <DType kType>
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  pack_subpixel_rows(subpixel_call(call), kMmaBlock, kType, parts[0], packed, team);
}
void enqueue(const KernelCall& call, const Stream& stream) {
  const GemmCall c = subpixel_call(call);
  cuda::enqueue_mma(c, mma_plan(c), call.packed, call.scratch, stream);
}

template <DType kType>
constexpr KernelDef entry(const char* variant, const char* format) {
  return {.op = OpKind::conv2d,
          .variant = variant,
          .isa = Isa::sm80,
          .reject = reject<kType>,
          .scratch_bytes = scratch_bytes,
          .pack_format = format,
          .packed_bytes = packed_bytes<kType>,
          .pack = pack<kType>,
          .enqueue = enqueue,
          .inexact = true};
}

}  // namespace

extern const KernelDef conv2d_sm80_subpixel_mma_bf16, conv2d_sm80_subpixel_mma_f16;
const KernelDef conv2d_sm80_subpixel_mma_bf16 = entry<DType::bf16>("sm80_subpixel_mma_bf16", "sm80_subpixel_rows_bf16");
const KernelDef conv2d_sm80_subpixel_mma_f16 = entry<DType::f16>("sm80_subpixel_mma_f16", "sm80_subpixel_rows_f16");

}  // namespace darkroom::kernels

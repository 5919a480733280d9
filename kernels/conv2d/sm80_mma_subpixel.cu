// conv2d 3×3 of a picture enlarged twice (subpixel.h) on tensor cores: the implicit GEMM of kernels/gemm/sm80_mma.cu, with the four
// phases side by side in its grid.
#include "kernels/conv2d/subpixel.h"
#include "kernels/core/mma_plan.h"

namespace darkroom::kernels {
namespace {

template <DType kType>
const char* reject(const KernelCall& call) {
  if (const char* reason = subpixel::reject(call)) return reason;
  if (call.in[Conv2dAttrs::kResidual].present() || call.attributes<Conv2dAttrs>().epilogue.geglu)
    return "it has no residual and no GEGLU";
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
int64_t slabs(const KernelCall& call) { return moments_slabs(subpixel_call(call)); }
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
          .moments_slabs = slabs,
          .inexact = true};
}

}  // namespace

extern const KernelDef conv2d_sm80_subpixel_mma_bf16, conv2d_sm80_subpixel_mma_f16;
const KernelDef conv2d_sm80_subpixel_mma_bf16 = entry<DType::bf16>("sm80_subpixel_mma_bf16", "sm80_subpixel_rows_bf16");
const KernelDef conv2d_sm80_subpixel_mma_f16 = entry<DType::f16>("sm80_subpixel_mma_f16", "sm80_subpixel_rows_f16");

}  // namespace darkroom::kernels

// conv2d on tensor cores: the implicit GEMM of kernels/gemm/sm80_mma.cu, whose prologue gathers the window, the second source and
// the enlarged picture.
#include "kernels/core/mma_plan.h"

namespace darkroom::kernels {
namespace {

template <DType kType>
const char* reject(const KernelCall& call) {
  return reject_mma(conv2d_call(call), kType);
}
size_t scratch_bytes(const KernelCall& call, int) {
  const GemmCall c = conv2d_call(call);
  return mma_scratch_bytes(c, mma_plan(c));
}
template <DType kType>
size_t packed_bytes(const KernelCall& call) {
  return packed_rows_bytes(conv2d_call(call), kMmaBlock, kType);
}
template <DType kType>
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  pack_rows(conv2d_call(call), kMmaBlock, kType, parts, packed, team);
}
int64_t slabs(const KernelCall& call) { return moments_slabs(conv2d_call(call)); }
void enqueue(const KernelCall& call, const Stream& stream) {
  const GemmCall c = conv2d_call(call);
  cuda::enqueue_mma(c, mma_plan(c), call.packed, call.scratch, stream);
}

}  // namespace

extern const KernelDef conv2d_sm80_mma_bf16, conv2d_sm80_mma_f16;
const KernelDef conv2d_sm80_mma_bf16 = {
    .op = OpKind::conv2d,
    .variant = "sm80_mma_bf16",
    .isa = Isa::sm80,
    .reject = reject<DType::bf16>,
    .scratch_bytes = scratch_bytes,
    .pack_format = "sm80_rows_bf16",
    .packed_bytes = packed_bytes<DType::bf16>,
    .pack = pack<DType::bf16>,
    .enqueue = enqueue,
    .moments_slabs = slabs,
};
const KernelDef conv2d_sm80_mma_f16 = {
    .op = OpKind::conv2d,
    .variant = "sm80_mma_f16",
    .isa = Isa::sm80,
    .reject = reject<DType::f16>,
    .scratch_bytes = scratch_bytes,
    .pack_format = "sm80_rows_f16",
    .packed_bytes = packed_bytes<DType::f16>,
    .pack = pack<DType::f16>,
    .enqueue = enqueue,
    .moments_slabs = slabs,
};

}  // namespace darkroom::kernels

// conv2d in f32 arithmetic, for every type, width and alignment: the implicit GEMM of kernels/gemm/sm80_fma.cu.
#include "kernels/core/fma_call.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) { return reject_fma(conv2d_call(call)); }
size_t packed_bytes(const KernelCall& call) { return packed_rows_bytes(conv2d_call(call), kFmaBlock, DType::f32); }
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  pack_rows(conv2d_call(call), kFmaBlock, DType::f32, parts, packed, team);
}
int64_t slabs(const KernelCall& call) { return moments_slabs(conv2d_call(call)); }
void enqueue(const KernelCall& call, const Stream& stream) {
  cuda::enqueue_fma(conv2d_call(call), call.packed, stream);
}

}  // namespace

extern const KernelDef conv2d_sm80_fma;
const KernelDef conv2d_sm80_fma = {
    .op = OpKind::conv2d,
    .variant = "sm80_fma",
    .isa = Isa::sm80,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = "sm80_rows_f32",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .enqueue = enqueue,
    .moments_slabs = slabs,
};

}  // namespace darkroom::kernels

// matmul with products of bf16.
#include "kernels/core/gemm_core_avx512_bf16.h"
#include "kernels/gemm/matmul_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx512_bf16::Core;
using namespace matmul_on_core;

// Activations in f32 are worth more than the products of bf16 would leave of them.
const char* reject_f32(const KernelCall& call) {
  if (call.in[MatmulAttrs::kA].dtype != DType::bf16 || call.in[MatmulAttrs::kB].dtype != DType::bf16)
    return "A and B must be bf16";
  return reject<Core>(call);
}

}  // namespace

extern const KernelDef matmul_avx512_bf16_14x32;
const KernelDef matmul_avx512_bf16_14x32 = {
    .op = OpKind::matmul,
    .variant = "avx512_bf16_14x32",
    .isa = Isa::avx512_bf16,
    .reject = reject_f32,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

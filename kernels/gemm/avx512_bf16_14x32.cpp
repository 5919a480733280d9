// gemm with products of bf16.
#include "kernels/core/gemm_core_avx512_bf16.h"
#include "kernels/gemm/gemm_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx512_bf16::Core;
using namespace gemm_on_core;

// Activations in f32 are worth more than the products of bf16 would leave of them.
const char* reject_f32(const KernelCall& call) {
  if (call.in[GemmAttrs::kA].dtype != DType::bf16) return "A must be bf16";
  return reject<Core>(call);
}

}  // namespace

extern const KernelDef gemm_avx512_bf16_14x32;
const KernelDef gemm_avx512_bf16_14x32 = {
    .op = OpKind::gemm,
    .variant = "avx512_bf16_14x32",
    .isa = Isa::avx512_bf16,
    .reject = reject_f32,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "bf16_pairs_32",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

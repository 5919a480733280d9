// conv2d with products of bf16, an implicit GEMM.
#include "kernels/conv2d/cost.h"
#include "kernels/conv2d/implicit_on_core.h"
#include "kernels/core/gemm_core_avx512_bf16.h"

namespace darkroom::kernels {
namespace {

using gemm_avx512_bf16::Core;
using namespace implicit_on_core;

// Activations in f32 are worth more than the products of bf16 would leave of them.
const char* reject_f32(const KernelCall& call) {
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (call.in[Conv2dAttrs::kX].dtype != DType::bf16 || (x2.present() && x2.dtype != DType::bf16))
    return "x and x2 must be bf16";
  return reject<Core>(call);
}

// 32 products a cycle, modelled.
double cycles(const KernelCall& call) { return conv2d_cost::direct_cycles(call, 0.9 * 32, Core::kNr); }

}  // namespace

extern const KernelDef conv2d_avx512_bf16_implicit;
const KernelDef conv2d_avx512_bf16_implicit = {
    .op = OpKind::conv2d,
    .variant = "avx512_bf16_implicit",
    .isa = Isa::avx512_bf16,
    .reject = reject_f32,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "bf16_pairs_32",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
    .cycles = cycles,
};

}  // namespace darkroom::kernels

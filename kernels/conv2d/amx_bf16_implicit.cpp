// conv2d with products of bf16 on AMX, an implicit GEMM.
#include "kernels/conv2d/cost.h"
#include "kernels/conv2d/implicit_on_core.h"
#include "kernels/core/gemm_core_amx_bf16.h"

namespace darkroom::kernels {
namespace {

using gemm_amx_bf16::Core;
using namespace implicit_on_core;

// Activations in f32 are worth more than the products of bf16 would leave of them.
const char* reject_f32(const KernelCall& call) {
  const TensorView& x2 = call.in[Conv2dAttrs::kX2];
  if (call.in[Conv2dAttrs::kX].dtype != DType::bf16 || (x2.present() && x2.dtype != DType::bf16))
    return "x and x2 must be bf16";
  return reject<Core>(call);
}

// 512 products a cycle at best.
double cycles(const KernelCall& call) { return conv2d_cost::direct_cycles(call, 0.4 * 512, Core::kNr); }

void launch_with_tiles(const KernelCall& call, const Team& team) {
  const gemm_amx::Tiles tiles;
  launch<Core>(call, team);
}

}  // namespace

extern const KernelDef conv2d_amx_bf16_implicit;
const KernelDef conv2d_amx_bf16_implicit = {
    .op = OpKind::conv2d,
    .variant = "amx_bf16_implicit",
    .isa = Isa::amx,
    .reject = reject_f32,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "bf16_pairs_32_by_32",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch_with_tiles,
    .cycles = cycles,
    .moments_slabs = moments_slabs<Core>,
};

}  // namespace darkroom::kernels

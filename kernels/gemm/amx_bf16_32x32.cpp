// gemm with products of bf16 on AMX.
#include "kernels/core/gemm_core_amx_bf16.h"
#include "kernels/gemm/gemm_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_amx_bf16::Core;
using namespace gemm_on_core;

// Activations in f32 are worth more than the products of bf16 would leave of them.
const char* reject_f32(const KernelCall& call) {
  if (call.in[GemmAttrs::kA].dtype != DType::bf16) return "A must be bf16";
  return reject<Core>(call);
}

void launch_with_tiles(const KernelCall& call, const Team& team) {
  const gemm_amx::Tiles tiles;
  launch<Core>(call, team);
}

}  // namespace

extern const KernelDef gemm_amx_bf16_32x32;
const KernelDef gemm_amx_bf16_32x32 = {
    .op = OpKind::gemm,
    .variant = "amx_bf16_32x32",
    .isa = Isa::amx,
    .reject = reject_f32,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "bf16_pairs_32_by_32",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch_with_tiles,
};

}  // namespace darkroom::kernels

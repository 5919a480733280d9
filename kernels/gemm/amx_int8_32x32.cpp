// gemm with products of int8 on AMX.
#include "kernels/core/gemm_core_amx_int8.h"
#include "kernels/gemm/gemm_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_amx_int8::Core;
using namespace gemm_on_core;

void launch_with_tiles(const KernelCall& call, const Team& team) {
  const gemm_amx::Tiles tiles;
  launch<Core>(call, team);
}

}  // namespace

extern const KernelDef gemm_amx_int8_32x32;
const KernelDef gemm_amx_int8_32x32 = {
    .op = OpKind::gemm,
    .variant = "amx_int8_32x32",
    .isa = Isa::amx,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "int8_fours_32_by_64",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch_with_tiles,
};

}  // namespace darkroom::kernels

// conv2d with products of int8 on AMX, an implicit GEMM.
#include "kernels/conv2d/implicit_on_core.h"
#include "kernels/core/gemm_core_amx_int8.h"

namespace darkroom::kernels {
namespace {

using gemm_amx_int8::Core;
using namespace implicit_on_core;

void launch_with_tiles(const KernelCall& call, const Team& team) {
  const gemm_amx::Tiles tiles;
  launch<Core>(call, team);
}

}  // namespace

extern const KernelDef conv2d_amx_int8_implicit;
const KernelDef conv2d_amx_int8_implicit = {
    .op = OpKind::conv2d,
    .variant = "amx_int8_implicit",
    .isa = Isa::amx,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "int8_fours_32_by_64",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch_with_tiles,
};

}  // namespace darkroom::kernels

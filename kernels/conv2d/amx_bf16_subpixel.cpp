// conv2d 3×3 of a picture enlarged twice, as four 2×2 convolutions (subpixel.h) with products of bf16 on AMX: direct_on_amx.h.
#include "kernels/conv2d/direct_on_amx.h"

namespace darkroom::kernels {
namespace {

using namespace direct_on_amx;

const char* reject(const KernelCall& call) { return reject_call(call, true); }
size_t scratch_bytes(const KernelCall& call, int team) { return team_scratch_bytes(call, true, team); }
size_t packed_bytes(const KernelCall& call) { return weight_bytes(call, true); }
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  pack_weights(call, parts, true, packed, team);
}
void launch(const KernelCall& call, const Team& team) { launch_call(call, true, team); }
double cycles(const KernelCall& call) { return estimated_cycles(call, true); }

}  // namespace

extern const KernelDef conv2d_amx_bf16_subpixel;
const KernelDef conv2d_amx_bf16_subpixel = {
    .op = OpKind::conv2d,
    .variant = "amx_bf16_subpixel",
    .isa = Isa::amx,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = "bf16_tiles_by_tap_subpixel",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .launch = launch,
    .cycles = cycles,
    .inexact = true,
};

}  // namespace darkroom::kernels

// conv2d and norm_conv2d of stride 1 with products of bf16 on AMX: direct_on_amx.h.
#include "kernels/conv2d/direct_on_amx.h"

namespace darkroom::kernels {
namespace {

using namespace direct_on_amx;

const char* reject(const KernelCall& call) { return reject_call(call, false); }
size_t scratch_bytes(const KernelCall& call, int team) { return team_scratch_bytes(call, false, team); }
size_t packed_bytes(const KernelCall& call) { return weight_bytes(call, false); }
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  pack_weights(call, parts, false, packed, team);
}
void launch(const KernelCall& call, const Team& team) { launch_call(call, false, team); }
double cycles(const KernelCall& call) { return estimated_cycles(call, false); }

constexpr KernelDef definition(OpKind op) {
  return {
      .op = op,
      .variant = "amx_bf16_direct",
      .isa = Isa::amx,
      .reject = reject,
      .scratch_bytes = scratch_bytes,
      .pack_format = "bf16_tiles_by_tap",
      .packed_bytes = packed_bytes,
      .pack = pack,
      .launch = launch,
      .cycles = cycles,
  };
}

}  // namespace

extern const KernelDef conv2d_amx_bf16_direct, norm_conv2d_amx_bf16_direct;
const KernelDef conv2d_amx_bf16_direct = definition(OpKind::conv2d);
const KernelDef norm_conv2d_amx_bf16_direct = definition(OpKind::norm_conv2d);

}  // namespace darkroom::kernels

// conv2d on AVX-512, an implicit GEMM.
#include "kernels/conv2d/cost.h"
#include "kernels/conv2d/implicit_on_core.h"
#include "kernels/core/gemm_core_avx512.h"

namespace darkroom::kernels {
namespace {

using gemm_avx512::Core;
using namespace implicit_on_core;

// Two multiply-adds a cycle, as avx512_winograd4 counts: Emerald Rapids' rate. Zen 4 has half of it, for both.
double cycles(const KernelCall& call) { return conv2d_cost::direct_cycles(call, 0.8 * 32, Core::kNr); }

}  // namespace

extern const KernelDef conv2d_avx512_implicit;
const KernelDef conv2d_avx512_implicit = {
    .op = OpKind::conv2d,
    .variant = "avx512_implicit",
    .isa = Isa::avx512,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "panels_32",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
    .cycles = cycles,
};

}  // namespace darkroom::kernels

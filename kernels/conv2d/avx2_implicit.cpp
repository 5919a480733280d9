// conv2d on AVX2, an implicit GEMM.
#include "kernels/conv2d/cost.h"
#include "kernels/conv2d/implicit_on_core.h"
#include "kernels/core/gemm_core_avx2.h"

namespace darkroom::kernels {
namespace {

using gemm_avx2::Core;
using namespace implicit_on_core;

double cycles(const KernelCall& call) { return conv2d_cost::direct_cycles(call, 0.9 * 16, Core::kNr); }

}  // namespace

extern const KernelDef conv2d_avx2_implicit;
const KernelDef conv2d_avx2_implicit = {
    .op = OpKind::conv2d,
    .variant = "avx2_implicit",
    .isa = Isa::avx2,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "panels_16",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
    .cycles = cycles,
};

}  // namespace darkroom::kernels

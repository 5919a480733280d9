// gemm on AVX2.
#include "kernels/core/gemm_core_avx2.h"
#include "kernels/gemm/gemm_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx2::Core;
using namespace gemm_on_core;

}  // namespace

extern const KernelDef gemm_avx2_6x16;
const KernelDef gemm_avx2_6x16 = {
    .op = OpKind::gemm,
    .variant = "avx2_6x16",
    .isa = Isa::avx2,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "panels_16",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

// gemm on AVX-512.
#include "kernels/core/gemm_core_avx512.h"
#include "kernels/gemm/gemm_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx512::Core;
using namespace gemm_on_core;

}  // namespace

extern const KernelDef gemm_avx512_14x32;
const KernelDef gemm_avx512_14x32 = {
    .op = OpKind::gemm,
    .variant = "avx512_14x32",
    .isa = Isa::avx512,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "panels_32",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

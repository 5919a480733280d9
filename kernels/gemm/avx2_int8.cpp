// gemm with products of int8 on AVX2.
#include "kernels/core/gemm_core_avx2_int8.h"
#include "kernels/gemm/gemm_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx2_int8::Core;
using namespace gemm_on_core;

}  // namespace

extern const KernelDef gemm_avx2_int8;
const KernelDef gemm_avx2_int8 = {
    .op = OpKind::gemm,
    .variant = "avx2_int8",
    .isa = Isa::avx2,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "int8_pairs_16",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

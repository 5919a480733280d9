// gemm with products of int8 (AVX512-VNNI).
#include "kernels/core/gemm_core_avx512_vnni.h"
#include "kernels/gemm/gemm_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx512_vnni::Core;
using namespace gemm_on_core;

}  // namespace

extern const KernelDef gemm_avx512_vnni;
const KernelDef gemm_avx512_vnni = {
    .op = OpKind::gemm,
    .variant = "avx512_vnni",
    .isa = Isa::avx512_bf16,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = "int8_fours_32",
    .packed_bytes = weight_bytes<Core>,
    .pack = pack<Core>,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

// conv2d with products of int8 on AVX2, an implicit GEMM.
#include "kernels/conv2d/implicit_on_core.h"
#include "kernels/core/gemm_core_avx2_int8.h"

namespace darkroom::kernels {
namespace {

using gemm_avx2_int8::Core;
using namespace implicit_on_core;

}  // namespace

extern const KernelDef conv2d_avx2_int8;
const KernelDef conv2d_avx2_int8 = {
    .op = OpKind::conv2d,
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

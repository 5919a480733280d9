// matmul on AVX2.
#include "kernels/core/gemm_core_avx2.h"
#include "kernels/gemm/matmul_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx2::Core;
using namespace matmul_on_core;

}  // namespace

extern const KernelDef matmul_avx2_6x16;
const KernelDef matmul_avx2_6x16 = {
    .op = OpKind::matmul,
    .variant = "avx2_6x16",
    .isa = Isa::avx2,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

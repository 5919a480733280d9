// matmul on AVX-512.
#include "kernels/core/gemm_core_avx512.h"
#include "kernels/gemm/matmul_on_core.h"

namespace darkroom::kernels {
namespace {

using gemm_avx512::Core;
using namespace matmul_on_core;

}  // namespace

extern const KernelDef matmul_avx512_14x32;
const KernelDef matmul_avx512_14x32 = {
    .op = OpKind::matmul,
    .variant = "avx512_14x32",
    .isa = Isa::avx512,
    .reject = reject<Core>,
    .scratch_bytes = scratch_bytes<Core>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch<Core>,
};

}  // namespace darkroom::kernels

// Flash attention in f32 on AVX2: flash_on_simd.h.
#include "kernels/attention/flash_on_simd.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

struct Simd : simd::Lanes {
  static constexpr int kMaxRows = 6;  // 12 sums, 2 vectors of Qᵀ or Pᵀ, 1 broadcast of 16 registers
};

}  // namespace

extern const KernelDef attention_avx2_flash;
const KernelDef attention_avx2_flash = {
    .op = OpKind::attention,
    .variant = "avx2_flash",
    .isa = Isa::avx2,
    .reject = flash::reject,
    .scratch_bytes = flash::scratch_bytes<Simd>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = flash::launch<Simd>,
};

}  // namespace darkroom::kernels

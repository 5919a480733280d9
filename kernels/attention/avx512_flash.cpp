// Flash attention in f32 on AVX-512: flash_on_simd.h.
#include "kernels/attention/flash_on_simd.h"
#include "kernels/core/simd_avx512.h"

namespace darkroom::kernels {
namespace {

struct Simd : simd512::Lanes {
  static constexpr int kMaxRows = 14;  // 28 sums, 2 vectors of Qᵀ or Pᵀ, 1 broadcast of 32 registers
};

}  // namespace

extern const KernelDef attention_avx512_flash;
const KernelDef attention_avx512_flash = {
    .op = OpKind::attention,
    .variant = "avx512_flash",
    .isa = Isa::avx512,
    .reject = flash::reject,
    .scratch_bytes = flash::scratch_bytes<Simd>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = flash::launch<Simd>,
};

}  // namespace darkroom::kernels

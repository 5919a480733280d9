// conv2d and norm_conv2d on AVX2 by Winograd's F(4×4, 3×3).
#include "kernels/conv2d/winograd4_on_simd.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

struct Simd : simd::Lanes {
  static constexpr int64_t kRows = 6, kPanel = 16;  // 12 sums, 2 weights, 1 broadcast of 16 registers
  static constexpr int64_t kMaxBlock = 132, kSubGroups = 8, kPanels = 2, kMaxKc = 320;
};

// As measured on Zen 3.
double cycles(const KernelCall& call) {
  return winograd4::cycles<Simd>(call, {.macs = 16 * 0.85, .input = 130, .output = 110, .weight = 60});
}

constexpr KernelDef kernel_of(OpKind op) {
  return {
      .op = op,
      .variant = "avx2_winograd4",
      .isa = Isa::avx2,
      .reject = winograd4::reject,
      .scratch_bytes = winograd4::scratch_bytes<Simd>,
      .pack_format = "winograd_16",
      .packed_bytes = winograd4::weight_bytes<Simd>,
      .pack = winograd4::pack<Simd>,
      .launch = winograd4::launch<Simd>,
      .cycles = cycles,
      .moments_slabs = winograd4::moments_slabs<Simd>,
      .inexact = true,
  };
}

}  // namespace

extern const KernelDef conv2d_avx2_winograd4, norm_conv2d_avx2_winograd4;
const KernelDef conv2d_avx2_winograd4 = kernel_of(OpKind::conv2d);
const KernelDef norm_conv2d_avx2_winograd4 = kernel_of(OpKind::norm_conv2d);

}  // namespace darkroom::kernels

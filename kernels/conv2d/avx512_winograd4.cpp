// conv2d and norm_conv2d on AVX-512 by Winograd's F(4×4, 3×3).
#include "kernels/conv2d/winograd4_on_simd.h"
#include "kernels/core/simd_avx512.h"

namespace darkroom::kernels {
namespace {

struct Simd : simd512::Lanes {
  static constexpr int64_t kRows = 14, kPanel = 32;  // 28 sums, 2 weights, 1 broadcast of 32 registers
  static constexpr int64_t kMaxBlock = 140, kSubGroups = 4, kPanels = 1, kMaxKc = 320;
};

// The transforms at AVX2's rates a vector: not measured by themselves.
double cycles(const KernelCall& call) {
  return winograd4::cycles<Simd>(call, {.macs = 32 * 0.85, .input = 130, .output = 110, .weight = 60});
}

constexpr KernelDef kernel_of(OpKind op) {
  return {
      .op = op,
      .variant = "avx512_winograd4",
      .isa = Isa::avx512,
      .reject = winograd4::reject,
      .scratch_bytes = winograd4::scratch_bytes<Simd>,
      .pack_format = "winograd_32",
      .packed_bytes = winograd4::weight_bytes<Simd>,
      .pack = winograd4::pack<Simd>,
      .launch = winograd4::launch<Simd>,
      .cycles = cycles,
      .moments_slabs = winograd4::moments_slabs<Simd>,
      .inexact = true,
  };
}

}  // namespace

extern const KernelDef conv2d_avx512_winograd4, norm_conv2d_avx512_winograd4;
const KernelDef conv2d_avx512_winograd4 = kernel_of(OpKind::conv2d);
const KernelDef norm_conv2d_avx512_winograd4 = kernel_of(OpKind::norm_conv2d);

}  // namespace darkroom::kernels

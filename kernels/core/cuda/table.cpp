// The CUDA kernels of kernels.inc, in its order. A unit of its own: tests link their emulated table in its place.
#include "kernels/core/kernel.h"

namespace darkroom {

namespace kernels {
#define DARKROOM_KERNEL(op, variant, source)
#define DARKROOM_CUDA_KERNEL(op, variant, source) extern const KernelDef op##_##variant;
#include "kernels/kernels.inc"
#undef DARKROOM_CUDA_KERNEL
}  // namespace kernels

std::span<const KernelDef* const> cuda_kernels() {
  static constexpr const KernelDef* table[] = {
#define DARKROOM_CUDA_KERNEL(op, variant, source) &kernels::op##_##variant,
#include "kernels/kernels.inc"
#undef DARKROOM_CUDA_KERNEL
#undef DARKROOM_KERNEL
  };
  return table;
}

}  // namespace darkroom

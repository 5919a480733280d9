#include <array>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom {

namespace kernels {
#define DARKROOM_KERNEL(op, variant, source) extern const KernelDef op##_##variant;
#define DARKROOM_CUDA_KERNEL(op, variant, source)
#include "kernels/kernels.inc"
#undef DARKROOM_KERNEL
#undef DARKROOM_CUDA_KERNEL
}  // namespace kernels

std::span<const KernelDef* const> kernels_of(OpKind op) {
  static const auto table = [] {
    std::array<std::vector<const KernelDef*>, std::variant_size_v<OpAttrs>> by_op;
    for (const KernelDef* kernel : cuda_kernels()) by_op[size_t(kernel->op)].push_back(kernel);
#define DARKROOM_KERNEL(op, variant, source) by_op[size_t(OpKind::op)].push_back(&kernels::op##_##variant);
#define DARKROOM_CUDA_KERNEL(op, variant, source)
#include "kernels/kernels.inc"
#undef DARKROOM_KERNEL
#undef DARKROOM_CUDA_KERNEL
    return by_op;
  }();
  return table[size_t(op)];
}

const KernelDef* find_kernel(OpKind op, std::string_view variant) {
  for (const KernelDef* kernel : kernels_of(op))
    if (kernel->variant == variant) return kernel;
  return nullptr;
}

}  // namespace darkroom

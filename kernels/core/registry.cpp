#include <array>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom {

namespace kernels {
#define DARKROOM_KERNEL(op, variant, source) extern const KernelDef op##_##variant;
#include "kernels/kernels.inc"
#undef DARKROOM_KERNEL
}  // namespace kernels

std::span<const KernelDef* const> kernels_of(OpKind op) {
  static const auto table = [] {
    std::array<std::vector<const KernelDef*>, std::variant_size_v<OpAttrs>> by_op;
#define DARKROOM_KERNEL(op, variant, source) by_op[size_t(OpKind::op)].push_back(&kernels::op##_##variant);
#include "kernels/kernels.inc"
#undef DARKROOM_KERNEL
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

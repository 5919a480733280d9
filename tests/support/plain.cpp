#include "tests/support/plain.h"

namespace darkroom {

namespace plain {
#define DARKROOM_OP(name, attrs, inputs, replaces) extern const KernelDef name##_ref;
#include "kernels/ops.inc"
#undef DARKROOM_OP
}  // namespace plain

namespace testing {

const KernelDef& plain_kernel(OpKind op) {
  static constexpr const KernelDef* kTable[] = {
#define DARKROOM_OP(name, attrs, inputs, replaces) &plain::name##_ref,
#include "kernels/ops.inc"
#undef DARKROOM_OP
  };
  return *kTable[size_t(op)];
}

}  // namespace testing
}  // namespace darkroom

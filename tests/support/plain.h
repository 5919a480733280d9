// The plain loop: what `ref` computes, in f32 instead of double and stored in the same types. Its distance from `ref` is what
// a fast kernel's is measured by (design: at most twice the error of a plain implementation, plus a floor).
#pragma once

#include "kernels/core/kernel.h"

namespace darkroom::testing {

const KernelDef& plain_kernel(OpKind op);

}  // namespace darkroom::testing

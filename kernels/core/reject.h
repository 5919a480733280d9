// Questions that reject() functions ask of their operands.
#pragma once

#include "kernels/core/tensor_view.h"

namespace darkroom {

// The types that activations are stored in.
static inline bool is_activation_type(DType t) { return t == DType::f32 || t == DType::bf16; }

// The types that weights are stored in.
static inline bool is_weight_type(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

}  // namespace darkroom

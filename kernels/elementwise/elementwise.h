// Ops that touch each element once. They exist to be fused away; what remains of them runs at memory speed.
#pragma once

#include "kernels/core/epilogue.h"

namespace darkroom {

// out = activation(x) · scale. With Activation::none and scale 1: a copy, which may change dtype and strides.
// x out [.., C], rows may be strided; f32 or bf16, each for itself.
struct UnaryAttrs {
  enum In { kX };
  Activation activation = Activation::none;
  float scale = 1.0f;

  bool operator==(const UnaryAttrs&) const = default;
};

// out = a + b. b has a's shape, or is [B, C] and is added to every row of its sample (a [B, .., C]).
// a and out f32 or bf16, each for itself; b is of a's dtype, or f32.
struct AddAttrs {
  enum In { kA, kB };

  bool operator==(const AddAttrs&) const = default;
};

// out[.., c] = x[.., c] · gelu(x[.., c + C/2]) for c < C/2: the gate of the transformer's feed-forward.
// Source: Shazeer, GLU Variants Improve Transformer (2020). x [.., C], out [.., C/2]; f32 or bf16, each for itself.
struct GegluAttrs {
  enum In { kX };

  bool operator==(const GegluAttrs&) const = default;
};

// out = x1 … xn side by side along the channels. Inputs [.., Ci], out [.., ΣCi], all of one dtype. Runs only for what the
// producers could not write in place.
struct ConcatAttrs {
  bool operator==(const ConcatAttrs&) const = default;
};

}  // namespace darkroom

// gemm: out = epilogue(A · Wᵀ), the linear layer.   matmul: out = alpha · A · B (or Bᵀ), both operands activations, batched.
#pragma once

#include "kernels/core/epilogue.h"

namespace darkroom {

// A [.., K] (rows may be strided), weight [N, K] as checkpoints have it, bias [N] f32, row_bias [B, N] f32 (B: the
// outermost dimension of A), residual [.., N'] of the output's dtype; out [.., N'], N' = N or, with geglu, N/2.
// A and out are f32 or bf16, each for itself; accumulation is f32. The weight is f32, f16 or bf16 and is packed at load.
// int8: products of whole numbers. A row of A becomes round(a · 127 / max|a|), each output channel of the weight likewise
// with a scale of its own; the sums are exact, times both scales they enter the epilogue. core/gemm_int8.h has the details.
struct GemmAttrs {
  enum In { kA, kWeight, kBias, kRowBias, kResidual };
  Epilogue epilogue;
  bool int8 = false;

  bool operator==(const GemmAttrs&) const = default;
};

// A [B, NH, N, K], B [B, NH, M, K] with transpose_b, else [B, NH, K, M]; out [B, NH, N, M]. Any strides, innermost 1.
// The primitive that attention is made of when it is not fused.
struct MatmulAttrs {
  enum In { kA, kB };
  float alpha = 1.0f;
  bool transpose_b = false;

  bool operator==(const MatmulAttrs&) const = default;
};

}  // namespace darkroom

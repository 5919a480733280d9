// softmax: y = exp(x − max x) / Σ exp(x − max x) over the channels of each row.
#pragma once

namespace darkroom {

// x [.., N, M], out the same shape; f32 or bf16. causal: in row i of the N, columns j > i count as −∞ and become 0.
struct SoftmaxAttrs {
  enum In { kX };
  bool causal = false;

  bool operator==(const SoftmaxAttrs&) const = default;
};

}  // namespace darkroom

// layer_norm: y = (x − mean) / √(var + eps) · gamma + beta over the channels of each row.
// Source: Ba, Kiros, Hinton, Layer Normalization (2016).
#pragma once

namespace darkroom {

// x [.., C] (rows may be strided), gamma beta [C] f32, out [.., C]; x and out f32 or bf16, each for itself.
struct LayerNormAttrs {
  enum In { kX, kGamma, kBeta };
  float eps = 1e-5f;

  bool operator==(const LayerNormAttrs&) const = default;
};

}  // namespace darkroom

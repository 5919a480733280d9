// sampler_update: out = Σ_k c_k · x_k, every sampler's step and the guidance mix as one elementwise pass.
#pragma once

namespace darkroom {

// coefficients [n] f32 (read from memory, so that a captured graph can be replayed with the next step's numbers),
// x_1 … x_n (1 ≤ n ≤ 8) f32 dense of one shape, out f32 of that shape; out may be one of the x_k.
// Summed in the order of k with fused multiply-adds in f32, first a product: every variant gives the same bits.
struct SamplerUpdateAttrs {
  enum In { kCoefficients, kFirst };

  bool operator==(const SamplerUpdateAttrs&) const = default;
};

}  // namespace darkroom

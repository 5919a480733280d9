// timestep_embedding: sinusoids of a (possibly fractional) time.
//   e_i = exp(−ln(max_period) · i / (dim/2 − freq_shift)),  out = [cos(t·e), sin(t·e)], or [sin, cos] without flip.
// Source: Vaswani et al. (2017); Ho et al., DDPM (2020).
#pragma once

namespace darkroom {

// t [.., R] f32, out [.., R · dim] f32 or bf16 ([R] gives [R, dim]; [B, 6] gives [B, 6·dim]). Computed in f32 as the
// libraries do: t·e is rounded to f32 before cos and sin are taken.
struct TimestepEmbeddingAttrs {
  enum In { kT };
  int dim = 320;
  bool flip_sin_to_cos = true;
  float freq_shift = 0.0f;
  float max_period = 10000.0f;

  bool operator==(const TimestepEmbeddingAttrs&) const = default;
};

}  // namespace darkroom

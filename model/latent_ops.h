// Elementwise work on latents, between the calls of the network: on the session's threads, without allocation.
#pragma once

#include <span>

#include "runtime/session.h"

namespace darkroom {

class LatentOps {
 public:
  // For tensors of `elements` f32.
  LatentOps(Session& session, int64_t elements);

  // out = Σ coefficients[i] · inputs[i], 1 to 8 of them; out may be one of the inputs.
  void combine(std::span<const float> coefficients, std::span<float* const> inputs, float* out);

 private:
  Session& session_;
  Shape shape_;
  OpAttrs attrs_;
  const KernelDef* kernel_ = nullptr;
};

}  // namespace darkroom

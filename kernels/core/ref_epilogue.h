// What the `ref` kernels of gemm and conv2d do with a sum: epilogue.h in Real. And their weights, dense in f32.
#pragma once

#include <cmath>
#include <span>

#include "kernels/core/epilogue.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/team.h"

namespace darkroom {
inline namespace DARKROOM_REF_NAMESPACE {

static inline Real ref_gelu(Real x) { return x * 0.5 * std::erfc(-x * M_SQRT1_2); }

static inline Real ref_activate(Activation activation, Real x) {
  switch (activation) {
    case Activation::none:
      break;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return ref_gelu(x);
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return x < 0 ? 0 : x;
  }
  return x;
}

struct RefEpilogue {
  Epilogue how;
  int64_t channels = 0;  // of the weight: N
  TensorView bias, row_bias, residual, out;

  int64_t outputs() const { return how.geglu ? channels / 2 : channels; }

  // `sum` for channel n of a row, `gate_sum` for channel n + N/2 where there is one.
  void store(int64_t row, int64_t sample, int64_t n, Real sum, Real gate_sum) const {
    Real v = sum + added(sample, n);
    v = how.geglu ? v * ref_gelu(gate_sum + added(sample, n + channels / 2)) : ref_activate(how.activation, v);
    if (residual.present()) v += ref_load(residual, ref_row_offset(residual, row) + n);
    ref_store(out, ref_row_offset(out, row) + n, v);
  }

 private:
  Real added(int64_t sample, int64_t n) const {
    Real v = 0;
    if (bias.present()) v += ref_load(bias, n);
    if (row_bias.present()) v += ref_load(row_bias, sample * row_bias.stride[0] + n);
    return v;
  }
};

// The parts of a weight one below the other, dense, in f32 (exact for every weight type).
static inline void ref_pack_dense(std::span<const TensorView> parts, void* packed, const Team& team) {
  float* to = static_cast<float*>(packed);
  for (const TensorView& part : parts) {
    const auto [first, last] = team.range(part.shape.elements());
    for (int64_t i = first; i < last; ++i) to[i] = float(ref_load(part, i));
    to += part.shape.elements();
  }
  team.sync();
}

}  // namespace DARKROOM_REF_NAMESPACE
}  // namespace darkroom

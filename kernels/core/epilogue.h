// What GEMM-shaped kernels do to a tile while they store it. One definition for gemm and conv2d, CPU and GPU.
#pragma once

#include <cstdint>

namespace darkroom {

enum class Activation : uint8_t {
  none,
  silu,        // x · sigmoid(x)
  gelu,        // x · Φ(x), with erf
  quick_gelu,  // x · sigmoid(1.702 x)
  relu,        // max(x, 0); NaN stays
};

constexpr const char* activation_name(Activation a) {
  switch (a) {
    case Activation::none:
      return "none";
    case Activation::silu:
      return "silu";
    case Activation::gelu:
      return "gelu";
    case Activation::quick_gelu:
      return "quick_gelu";
    case Activation::relu:
      return "relu";
  }
  return "?";
}

// In this order, all in f32, for output channel n of a row in sample b:
//   v = acc + bias[n] + row_bias[b][n]
//   v = activation(v)              or, with geglu, v = v[n] · gelu(v[n + N/2]) for n < N/2: half as many outputs
//   v = v + residual[row][n]
//   out = v
// bias, row_bias and residual apply where the call has those operands.
struct Epilogue {
  Activation activation = Activation::none;
  bool geglu = false;

  bool operator==(const Epilogue&) const = default;
};

}  // namespace darkroom

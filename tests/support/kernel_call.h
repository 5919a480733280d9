// One kernel call with memory of its own: inputs filled from a seed, output between guard bands and poisoned with NaN.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom::testing {

class CallMemory {
 public:
  explicit CallMemory(OpAttrs attrs) : attrs_(std::move(attrs)) {}

  // Dense operand in `slot`, normal-ish values around `mean` with deviation `deviation`, rounded to the dtype.
  void fill(int slot, const Shape& shape, DType dtype, float deviation = 1.0f, float mean = 0.0f);
  void set_output(DType dtype) { out_dtype_ = dtype; }

  // Packs, runs with a team of that many threads, checks the guard bands; the output as f32.
  // Throws std::runtime_error where the kernel rejects the call or writes outside of its output.
  std::vector<float> run(const KernelDef& kernel, int team) const;

  TensorView input(int slot) const;

 private:
  struct Operand {
    Shape shape;
    DType dtype = DType::none;
    std::vector<std::byte> bytes;
  };

  OpAttrs attrs_;
  Operand operands_[kMaxInputs];
  DType out_dtype_ = DType::f32;
};

// ‖a − b‖ / ‖b‖; NaN where either has one, infinity where the sizes differ.
double relative_l2(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace darkroom::testing

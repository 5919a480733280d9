// One kernel call with memory of its own: inputs filled from a seed, output between guard bands and poisoned with NaN.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/core/kernel.h"
#include "runtime/backend.h"

namespace darkroom::testing {

class CallMemory {
 public:
  explicit CallMemory(OpAttrs attrs) : attrs_(std::move(attrs)) {}

  // Operand in `slot`, normally distributed around `mean`, rounded to the dtype. Integer types get mean + |deviation| · u,
  // u uniform in [0, 1). Its rows lie `gap` elements apart, filled with NaN: with 0 it is dense.
  void fill(int slot, const Shape& shape, DType dtype, float deviation = 1.0f, float mean = 0.0f, int64_t gap = 0);
  // The moments of the operand in `source`, as a convolution leaves them (KernelCall::moments): of runs of its pixels.
  void fill_moments(int slot, int source, int64_t slabs);
  void set_output(DType dtype, int64_t gap = 0) { out_dtype_ = dtype, out_gap_ = gap; }

  // Packs, runs with a team of that many threads, checks the guard bands; the output as f32.
  // Throws std::runtime_error where the kernel rejects the call or writes outside of its output.
  std::vector<float> run(const KernelDef& kernel, int team) const { return run(kernel, team, out_dtype_); }
  // The same with an output of another type; f64 is for `ref`, and is not held against reject().
  std::vector<float> run(const KernelDef& kernel, int team, DType out) const { return run(kernel, team, out, nullptr); }
  // With the moments that it leaves, [B, slabs, 3, C]; none where it leaves none.
  std::vector<float> run_with_moments(const KernelDef& kernel, int team, std::vector<float>& moments) const {
    return run(kernel, team, out_dtype_, &moments);
  }

  bool rejected_by(const KernelDef& kernel) const;

  // The same call for the first sample alone.
  CallMemory first_sample() const;

  // The same call with its packed weights rounded to bf16.
  CallMemory with_bf16_weights() const;

  TensorView input(int slot) const;

 private:
  struct Operand {
    Shape shape;
    DType dtype = DType::none;
    int64_t gap = 0;
    std::vector<std::byte> bytes;
  };

  std::vector<float> run(const KernelDef& kernel, int team, DType out, std::vector<float>* moments) const;

  OpAttrs attrs_;
  Operand operands_[kMaxInputs];
  DType out_dtype_ = DType::f32;
  int64_t out_gap_ = 0;
};

// What expect_kernels_agree() tries: the implementations in the table that this CPU can run, without `ref`; a test program
// may put others in their place.
using KernelsUnderTest = std::vector<const KernelDef*> (*)(OpKind op);
extern KernelsUnderTest kernels_under_test;

// The GPU whose memory the calls of CUDA kernels get; null: memory of the host, as the emulator wants it.
extern Backend* device_under_test;

// For tables of one device's kernels, which need not have one for every call; such a program asks at its end whether each
// kernel was_held() against `ref` at least once.
extern bool all_may_refuse;
bool was_held(const KernelDef& kernel);

// Holds kernels_under_test(op) against `ref` computed and stored in f64: relative L2 at most twice that of the plain loop in
// the types that the kernel multiplies (plain.h), plus kFloor; and the same bits from teams of 1, 2 and 3. Those are the
// call's own types, but for kernels that multiply in bf16, which round finer weights to it. A GPU's kernels are called
// once. Where a kernel leaves moments, expect_moments() holds them. Fails where there are kernels and none accepts the call.
void expect_kernels_agree(const CallMemory& call, OpKind op);

// Holds the moments that a kernel leaves, if it does, against its output `out`, which stays what it is: all slabs of a sample together
// are as many pixels and have their mean and squares. Those of the first sample alone are the same bits; on a GPU, whose plan
// follows from all samples, as many slabs.
void expect_moments(const CallMemory& call, const KernelDef& kernel, const std::vector<float>& out);

// A few roundings of f32, for the sums and polynomials that happen to be exact in the plain loop.
inline constexpr double kFloor = 3e-7;
// What the transforms of inexact kernels (Winograd) add: sums of 36 terms with factors up to 8 on the way in and out.
inline constexpr double kTransformFloor = 3e-6;

// The same against `ref` in the call's own types with a given limit: 0 for ops that only copy.
void expect_kernels_agree(const CallMemory& call, OpKind op, double limit);

// ‖a − b‖ / ‖b‖; NaN where either has one, infinity where the sizes differ.
double relative_l2(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace darkroom::testing

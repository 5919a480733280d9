// The definitions of unary, add, geglu and concat.
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

Real activate(Activation activation, Real x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case Activation::quick_gelu:
      return x / (1.0 + std::exp(-1.702 * x));
    case Activation::relu:
      return x < 0 ? 0 : x;
  }
  return x;
}

const char* reject_one_source(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[0].dtype))
    return "x and out must be f32 or bf16";
  return nullptr;
}

void launch_unary(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<UnaryAttrs>();
  const TensorView& x = call.in[UnaryAttrs::kX];
  const int64_t C = x.channels();
  const auto [first, last] = team.range(x.rows());
  for (int64_t r = first; r < last; ++r) {
    const int64_t in = ref_row_offset(x, r), out = ref_row_offset(call.out, r);
    for (int64_t c = 0; c < C; ++c)
      ref_store(call.out, out + c, activate(attrs.activation, ref_load(x, in + c)) * Real(attrs.scale));
  }
}

const char* reject_add(const KernelCall& call) {
  const DType a = call.in[AddAttrs::kA].dtype, b = call.in[AddAttrs::kB].dtype;
  if (!is_activation_type(call.out.dtype) || !is_activation_type(a)) return "a and out must be f32 or bf16";
  if (b != a && b != DType::f32) return "b must be of a's dtype, or f32";
  return nullptr;
}

void launch_add(const KernelCall& call, const Team& team) {
  const TensorView &a = call.in[AddAttrs::kA], &b = call.in[AddAttrs::kB];
  const int64_t C = a.channels(), rows = a.rows();
  const bool per_sample = !(b.shape == a.shape);
  const int64_t rows_of_sample = rows / a.shape[0];
  const auto [first, last] = team.range(rows);
  for (int64_t r = first; r < last; ++r) {
    const int64_t in_a = ref_row_offset(a, r), out = ref_row_offset(call.out, r);
    const int64_t in_b = ref_row_offset(b, per_sample ? r / rows_of_sample : r);
    for (int64_t c = 0; c < C; ++c) ref_store(call.out, out + c, ref_load(a, in_a + c) + ref_load(b, in_b + c));
  }
}

void launch_geglu(const KernelCall& call, const Team& team) {
  const TensorView& x = call.in[GegluAttrs::kX];
  const int64_t half = x.channels() / 2;
  const auto [first, last] = team.range(x.rows());
  for (int64_t r = first; r < last; ++r) {
    const int64_t in = ref_row_offset(x, r), out = ref_row_offset(call.out, r);
    for (int64_t c = 0; c < half; ++c)
      ref_store(call.out, out + c, ref_load(x, in + c) * activate(Activation::gelu, ref_load(x, in + c + half)));
  }
}

const char* reject_concat(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  for (const TensorView& x : call.in)
    if (x.present() && x.dtype != call.out.dtype) return "inputs and out must be of one dtype";
  return nullptr;
}

void launch_concat(const KernelCall& call, const Team& team) {
  const auto [first, last] = team.range(call.out.rows());
  for (int64_t r = first; r < last; ++r) {
    int64_t out = ref_row_offset(call.out, r);
    for (const TensorView& x : call.in) {
      if (!x.present()) continue;
      const int64_t in = ref_row_offset(x, r);
      for (int64_t c = 0; c < x.channels(); ++c) ref_store(call.out, out++, ref_load(x, in + c));
    }
  }
}

}  // namespace

extern const KernelDef unary_ref, add_ref, geglu_ref, concat_ref;
const KernelDef unary_ref = {
    .op = OpKind::unary,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject_one_source,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_unary,
};
const KernelDef add_ref = {
    .op = OpKind::add,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject_add,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_add,
};
const KernelDef geglu_ref = {
    .op = OpKind::geglu,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject_one_source,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_geglu,
};
const KernelDef concat_ref = {
    .op = OpKind::concat,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject_concat,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_concat,
};

}  // namespace darkroom::kernels

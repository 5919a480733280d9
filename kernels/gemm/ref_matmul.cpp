// The definition of matmul, in double.
#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.in[MatmulAttrs::kA].dtype) || !is_activation_type(call.in[MatmulAttrs::kB].dtype) ||
      !is_activation_type(call.out.dtype))
    return "A, B and out must be f32 or bf16";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<MatmulAttrs>();
  const TensorView& a = call.in[MatmulAttrs::kA];
  const TensorView& b = call.in[MatmulAttrs::kB];
  const int64_t N = a.shape[-2], K = a.channels(), M = call.out.channels(), b_rows = b.shape[-2];

  const auto [first, last] = team.range(a.rows());
  for (int64_t row = first; row < last; ++row) {
    const int64_t batch = row / N, a_row = ref_row_offset(a, row), out_row = ref_row_offset(call.out, row);
    for (int64_t m = 0; m < M; ++m) {
      Real sum = 0;
      for (int64_t k = 0; k < K; ++k) {
        const int64_t at =
            attrs.transpose_b ? ref_row_offset(b, batch * b_rows + m) + k : ref_row_offset(b, batch * b_rows + k) + m;
        sum += ref_load(a, a_row + k) * ref_load(b, at);
      }
      ref_store(call.out, out_row + m, Real(attrs.alpha) * sum);
    }
  }
}

}  // namespace

extern const KernelDef matmul_ref;
const KernelDef matmul_ref = {
    .op = OpKind::matmul,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

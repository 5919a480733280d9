// The definition of softmax, in double.
#include <algorithm>
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[SoftmaxAttrs::kX].dtype))
    return "x and out must be f32 or bf16";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<SoftmaxAttrs>();
  const TensorView& x = call.in[SoftmaxAttrs::kX];
  const int64_t N = x.rank() >= 2 ? x.shape[-2] : 1, M = x.channels();

  const auto [first, last] = team.range(x.rows());
  for (int64_t r = first; r < last; ++r) {
    const int64_t in = ref_row_offset(x, r), out = ref_row_offset(call.out, r);
    const int64_t seen = attrs.causal ? std::min(r % N + 1, M) : M;
    Real max = -INFINITY;
    for (int64_t j = 0; j < seen; ++j)
      if (ref_load(x, in + j) > max) max = ref_load(x, in + j);
    Real sum = 0;
    for (int64_t j = 0; j < seen; ++j) sum += std::exp(ref_load(x, in + j) - max);
    for (int64_t j = 0; j < M; ++j)
      ref_store(call.out, out + j, j < seen ? std::exp(ref_load(x, in + j) - max) / sum : 0.0);
  }
}

}  // namespace

extern const KernelDef softmax_ref;
const KernelDef softmax_ref = {
    .op = OpKind::softmax,
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

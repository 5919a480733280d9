// The definition of attention, a query row at a time in double: logits, softmax, weighted sum.
#include <algorithm>
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  const DType type = call.out.dtype;
  if (!is_activation_type(type)) return "out must be f32 or bf16";
  for (int slot : {AttentionAttrs::kQ, AttentionAttrs::kK, AttentionAttrs::kV})
    if (call.in[slot].dtype != type) return "q, k, v and out must be of one dtype";
  return nullptr;
}

size_t scratch_bytes(const KernelCall& call, int team) {
  return size_t(team) * size_t(call.in[AttentionAttrs::kK].shape[1]) * sizeof(Real);
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<AttentionAttrs>();
  const TensorView &q = call.in[AttentionAttrs::kQ], &k = call.in[AttentionAttrs::kK], &v = call.in[AttentionAttrs::kV];
  const int64_t B = q.shape[0], N = q.shape[1], M = k.shape[1], NH = attrs.heads, D = q.channels() / NH;
  Real* weight = static_cast<Real*>(call.scratch) + team.index * M;

  const auto [first, last] = team.range(B * NH * N);
  for (int64_t item = first; item < last; ++item) {
    const int64_t b = item / (NH * N), h = item / N % NH, i = item % N;
    const int64_t seen = attrs.causal ? std::min(i + 1, M) : M;
    const int64_t q_row = b * q.stride[0] + i * q.stride[1] + h * D;
    Real max = -INFINITY;
    for (int64_t j = 0; j < seen; ++j) {
      const int64_t k_row = b * k.stride[0] + j * k.stride[1] + h * D;
      Real dot = 0;
      for (int64_t d = 0; d < D; ++d) dot += ref_load(q, q_row + d) * ref_load(k, k_row + d);
      weight[j] = Real(attrs.scale) * dot;
      if (weight[j] > max) max = weight[j];
    }
    Real sum = 0;
    for (int64_t j = 0; j < seen; ++j) sum += weight[j] = std::exp(weight[j] - max);
    const int64_t out_row = b * call.out.stride[0] + i * call.out.stride[1] + h * D;
    for (int64_t d = 0; d < D; ++d) {
      Real value = 0;
      for (int64_t j = 0; j < seen; ++j)
        value += weight[j] * ref_load(v, b * v.stride[0] + j * v.stride[1] + h * D + d);
      ref_store(call.out, out_row + d, value / sum);
    }
  }
}

}  // namespace

extern const KernelDef attention_ref;
const KernelDef attention_ref = {
    .op = OpKind::attention,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

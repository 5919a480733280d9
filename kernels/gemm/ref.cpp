// The definition of gemm, in double.
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/ref_epilogue.h"
#include "kernels/core/ref_int8.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.in[GemmAttrs::kA].dtype) || !is_activation_type(call.out.dtype))
    return "A and out must be f32 or bf16";
  if (!is_weight_type(call.in[GemmAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  return nullptr;
}

size_t packed_bytes(const KernelCall& call) {
  return size_t(call.in[GemmAttrs::kWeight].shape.elements()) * sizeof(float);
}

void pack(const KernelCall&, std::span<const TensorView> parts, void* packed, const Team& team) {
  ref_pack_dense(parts, packed, team);
}

void launch(const KernelCall& call, const Team& team) {
  const TensorView& a = call.in[GemmAttrs::kA];
  const TensorView& weight = call.in[GemmAttrs::kWeight];
  const int64_t rows = a.rows(), channels = weight.shape[0], K = weight.shape[1];
  const int64_t rows_per_sample = a.rank() >= 2 ? rows / a.shape[0] : 1;
  const RefEpilogue epilogue = {
      call.attributes<GemmAttrs>().epilogue, channels, call.in[GemmAttrs::kBias], call.in[GemmAttrs::kRowBias],
      call.in[GemmAttrs::kResidual],         call.out};
  const float* w = static_cast<const float*>(call.packed);

  const auto dot = [&](int64_t row, int64_t n) {
    const int64_t offset = ref_row_offset(a, row);
    Real sum = 0;
    if (!call.attributes<GemmAttrs>().int8) {
      for (int64_t k = 0; k < K; ++k) sum += ref_load(a, offset + k) * Real(w[n * K + k]);
      return sum;
    }
    const RefInt8 whole_a = ref_int8(K, [&](int64_t k) { return ref_load(a, offset + k); });
    const RefInt8 whole_w = ref_int8(K, [&](int64_t k) { return Real(w[n * K + k]); });
    for (int64_t k = 0; k < K; ++k) sum += whole_a(ref_load(a, offset + k)) * whole_w(Real(w[n * K + k]));
    return sum * Real(whole_a.scale * whole_w.scale);
  };
  const auto [first, last] = team.range(rows);
  for (int64_t row = first; row < last; ++row)
    for (int64_t n = 0; n < epilogue.outputs(); ++n)
      epilogue.store(row, row / rows_per_sample, n, dot(row, n), epilogue.how.geglu ? dot(row, n + channels / 2) : 0.0);
}

}  // namespace

extern const KernelDef gemm_ref;
const KernelDef gemm_ref = {
    .op = OpKind::gemm,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = "dense_f32",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .launch = launch,
};

}  // namespace darkroom::kernels

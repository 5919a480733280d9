// The definitions of embedding and select_rows.
#include <algorithm>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject_embedding(const KernelCall& call) {
  if (call.in[EmbeddingAttrs::kIds].dtype != DType::i32) return "ids must be i32";
  if (!is_weight_type(call.in[EmbeddingAttrs::kTable].dtype)) return "the table must be f32, f16 or bf16";
  const TensorView& positions = call.in[EmbeddingAttrs::kPositions];
  if (positions.present() && !is_weight_type(positions.dtype)) return "positions must be f32, f16 or bf16";
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  return nullptr;
}

void launch_embedding(const KernelCall& call, const Team& team) {
  const TensorView &ids = call.in[EmbeddingAttrs::kIds], &table = call.in[EmbeddingAttrs::kTable],
                   &positions = call.in[EmbeddingAttrs::kPositions];
  const int64_t N = ids.shape[1], C = table.channels();
  const auto [first, last] = team.range(ids.shape[0] * N);
  for (int64_t r = first; r < last; ++r) {
    const int64_t b = r / N, n = r % N;
    const int64_t id = ids.as<int32_t>()[b * ids.stride[0] + n * ids.stride[1]];
    const int64_t in = std::clamp<int64_t>(id, 0, table.shape[0] - 1) * table.stride[0];
    const int64_t out = ref_row_offset(call.out, r);
    for (int64_t c = 0; c < C; ++c) {
      Real value = ref_load(table, in + c);
      if (positions.present()) value += ref_load(positions, n * positions.stride[0] + c);
      ref_store(call.out, out + c, value);
    }
  }
}

const char* reject_select_rows(const KernelCall& call) {
  if (call.in[SelectRowsAttrs::kIndex].dtype != DType::i32) return "the index must be i32";
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[SelectRowsAttrs::kX].dtype))
    return "x and out must be f32 or bf16";
  return nullptr;
}

void launch_select_rows(const KernelCall& call, const Team& team) {
  const TensorView &x = call.in[SelectRowsAttrs::kX], &index = call.in[SelectRowsAttrs::kIndex];
  const auto [first, last] = team.range(x.shape[0]);
  for (int64_t b = first; b < last; ++b) {
    const int64_t row = std::clamp<int64_t>(index.as<int32_t>()[b * index.stride[0]], 0, x.shape[1] - 1);
    for (int64_t c = 0; c < x.channels(); ++c)
      ref_store(call.out, b * call.out.stride[0] + c, ref_load(x, b * x.stride[0] + row * x.stride[1] + c));
  }
}

}  // namespace

extern const KernelDef embedding_ref, select_rows_ref;
const KernelDef embedding_ref = {
    .op = OpKind::embedding,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject_embedding,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_embedding,
};
const KernelDef select_rows_ref = {
    .op = OpKind::select_rows,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject_select_rows,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_select_rows,
};

}  // namespace darkroom::kernels

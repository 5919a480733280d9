// embedding and select_rows: a gathered row at a time, widened or narrowed on the way.
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/rows.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

int64_t clamp_index(int64_t i, int64_t count) { return i < 0 ? 0 : i >= count ? count - 1 : i; }

// Eight elements of any floating type, or the first n.
__m256 load_any(const TensorView& v, int64_t offset, int n) {
  switch (v.dtype) {
    case DType::f16:
      return n == 8 ? simd::load(v.as<f16_t>() + offset) : simd::load_n(v.as<f16_t>() + offset, n);
    case DType::bf16:
      return n == 8 ? simd::load(v.as<bf16_t>() + offset) : simd::load_n(v.as<bf16_t>() + offset, n);
    default:
      return n == 8 ? simd::load(v.as<float>() + offset) : simd::load_n(v.as<float>() + offset, n);
  }
}

void store_any(const TensorView& v, int64_t offset, __m256 x, int n) {
  if (v.dtype == DType::bf16) return simd::store_n(v.as<bf16_t>() + offset, x, n);
  simd::store_n(v.as<float>() + offset, x, n);
}

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
    const int64_t id = clamp_index(ids.as<int32_t>()[b * ids.stride[0] + n * ids.stride[1]], table.shape[0]);
    const int64_t out = row_offset(call.out, r);
    for (int64_t c = 0; c < C; c += 8) {
      const int lanes = C - c < 8 ? int(C - c) : 8;
      __m256 x = load_any(table, id * table.stride[0] + c, lanes);
      if (positions.present()) x = _mm256_add_ps(x, load_any(positions, n * positions.stride[0] + c, lanes));
      store_any(call.out, out + c, x, lanes);
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
  const int64_t C = x.channels();
  const auto [first, last] = team.range(x.shape[0]);
  for (int64_t b = first; b < last; ++b) {
    const int64_t row = clamp_index(index.as<int32_t>()[b * index.stride[0]], x.shape[1]);
    for (int64_t c = 0; c < C; c += 8) {
      const int lanes = C - c < 8 ? int(C - c) : 8;
      store_any(call.out, b * call.out.stride[0] + c, load_any(x, b * x.stride[0] + row * x.stride[1] + c, lanes),
                lanes);
    }
  }
}

}  // namespace

extern const KernelDef embedding_avx2, select_rows_avx2;
const KernelDef embedding_avx2 = {
    .op = OpKind::embedding,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject_embedding,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_embedding,
};
const KernelDef select_rows_avx2 = {
    .op = OpKind::select_rows,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject_select_rows,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_select_rows,
};

}  // namespace darkroom::kernels

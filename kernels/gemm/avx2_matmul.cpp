// matmul on AVX2: for each batch item the team packs B into panels, then runs the shared core (gemm_core_avx2.h).
#include "kernels/core/gemm_core_avx2.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

using namespace gemm_avx2;

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.in[MatmulAttrs::kA].dtype) || !is_activation_type(call.in[MatmulAttrs::kB].dtype) ||
      !is_activation_type(call.out.dtype))
    return "A, B and out must be f32 or bf16";
  return nullptr;
}

// Packed B of one item, f32, in whole cache lines; the members' blocks follow.
size_t b_bytes(const KernelCall& call) {
  return packed_bytes(call.out.shape[-1], call.in[MatmulAttrs::kA].shape[-1], false, DType::f32);
}

size_t scratch_bytes(const KernelCall& call, int team) {
  return b_bytes(call) + size_t(team) * scratch_bytes_per_member(call.in[MatmulAttrs::kA].shape[-1]);
}

// The matrix that two leading indices select.
TensorView item_of(const TensorView& v, int64_t item) {
  TensorView matrix = {nullptr, v.dtype, {v.shape[-2], v.shape[-1]}, {v.stride[size_t(v.rank() - 2)], 1}};
  int64_t offset = 0;
  for (int i = v.rank() - 3; i >= 0; --i) {
    offset += item % v.shape[i] * v.stride[size_t(i)];
    item /= v.shape[i];
  }
  matrix.data = static_cast<char*>(v.data) + offset * int64_t(dtype_size(v.dtype));
  return matrix;
}

template <typename T>
void pack_b(const TensorView& b, bool transposed, int64_t m, int64_t k, float* packed, const Team& team) {
  const T* from = static_cast<const T*>(b.data);
  const int64_t panels = panels_of(m, false);
  for (int64_t panel = panels * team.index / team.count; panel < panels * (team.index + 1) / team.count; ++panel) {
    float* to = packed + panel * k * kNr;
    const int64_t first = panel * kNr, width = smaller(kNr, m - first);
    for (int64_t i = 0; i < k; ++i, to += kNr) {
      if (transposed) {
        for (int64_t lane = 0; lane < width; ++lane) to[lane] = to_float(from[(first + lane) * b.stride[0] + i]);
      } else {
        widen(from + i * b.stride[0] + first, to, width);
      }
      for (int64_t lane = width; lane < kNr; ++lane) to[lane] = 0;
    }
  }
}

void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<MatmulAttrs>();
  const TensorView& a = call.in[MatmulAttrs::kA];
  const TensorView& b = call.in[MatmulAttrs::kB];
  const int64_t m = call.out.shape[-1], k = a.shape[-1];
  const Product product = {
      .m = a.shape[-2], .k = k, .panels = panels_of(m, false), .weight = call.scratch, .weight_type = DType::f32};
  float* packed = static_cast<float*>(call.scratch);
  void* blocks = static_cast<char*>(call.scratch) + b_bytes(call);

  const int64_t items = a.shape.rows() / a.shape[-2];
  for (int64_t item = 0; item < items; ++item) {
    if (item > 0) team.sync();  // the others may still read the last item's B
    const TensorView matrix = item_of(b, item);
    if (b.dtype == DType::bf16)
      pack_b<bf16_t>(matrix, attrs.transpose_b, m, k, packed, team);
    else
      pack_b<float>(matrix, attrs.transpose_b, m, k, packed, team);
    team.sync();
    MatrixRows rows;
    rows.a = item_of(a, item);
    Store store;
    store.out = item_of(call.out, item);
    store.alpha = attrs.alpha;
    run(product, store, rows, blocks, team);
  }
}

}  // namespace

extern const KernelDef matmul_avx2_6x16;
const KernelDef matmul_avx2_6x16 = {
    .op = OpKind::matmul,
    .variant = "avx2_6x16",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

// matmul for GPUs, in f32 arithmetic: one 64×64 tile of one product a block, see kernels/core/cuda/fma_tile.h. What attention is made of
// when it is taken apart; with it fused nothing of this runs.
#include "kernels/core/cuda/fma_tile.h"
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

template <typename In, typename Out>
struct Params {
  Global<const In> a, b;
  Global<Out> out;
  int64_t a_stride[3], b_stride[3], out_stride[3];  // batch, head, row
  int64_t b_k, b_column;                            // b's strides along K and along the output's columns
  uint32_t heads, rows, columns, depth;
  bool vectors;  // four outputs of a row may be stored at once
  float alpha;
};

template <typename In, typename Out>
__global__ void __launch_bounds__(kFmaThreads) matmul(const __grid_constant__ Params<In, Out> p) {
  const FmaPlace at = fma_place();
  const FmaLoad of_a = fma_load_along_k(), of_b = p.b_k == 1 ? of_a : fma_load_across_k();
  const FmaTile tile = fma_tile();
  const int64_t batch = blockIdx.z / p.heads, head = blockIdx.z % p.heads;
  const Global<const In> from_a = p.a + (batch * p.a_stride[0] + head * p.a_stride[1]);
  const Global<const In> from_b = p.b + (batch * p.b_stride[0] + head * p.b_stride[1]);
  const uint32_t first_row = blockIdx.x * kFmaTile, first_column = blockIdx.y * kFmaTile;
  float sum[4][4] = {};
  for (uint32_t first = 0; first < p.depth; first += kFmaDepth) {
    float a[kFmaLoads], b[kFmaLoads];
    DARKROOM_UNROLL
    for (int i = 0; i < kFmaLoads; ++i) {
      const uint32_t row = first_row + uint32_t(of_a.row + i * of_a.row_step);
      const uint32_t k = first + uint32_t(of_a.k + i * of_a.k_step);
      a[i] = row < p.rows && k < p.depth ? widen(load(from_a + (row * p.a_stride[2] + k))) : 0.0f;
      const uint32_t column = first_column + uint32_t(of_b.row + i * of_b.row_step);
      const uint32_t k_of_b = first + uint32_t(of_b.k + i * of_b.k_step);
      b[i] =
          column < p.columns && k_of_b < p.depth ? widen(load(from_b + (k_of_b * p.b_k + column * p.b_column))) : 0.0f;
    }
    fma_step(sum, tile, at, of_a, a, of_b, b);
  }
  const Global<Out> out = p.out + (batch * p.out_stride[0] + head * p.out_stride[1]);
  const uint32_t column = first_column + uint32_t(at.sum_column);
  DARKROOM_UNROLL
  for (int i = 0; i < 4; ++i) {
    const uint32_t row = first_row + uint32_t(at.sum_row + i);
    if (row >= p.rows || column >= p.columns) continue;
    DARKROOM_UNROLL
    for (float& s : sum[i]) s *= p.alpha;
    store_run<Out>(out + (row * p.out_stride[2] + column), sum[i], p.vectors, p.columns - column);
  }
}

const char* reject(const KernelCall& call) {
  const TensorView &a = call.in[MatmulAttrs::kA], &b = call.in[MatmulAttrs::kB];
  if (a.dtype != b.dtype || !is_type_pair(a.dtype, call.out.dtype))
    return "A and B must be of one dtype, out of theirs or f32";
  if (call.out.shape[0] * call.out.shape[1] > 65535) return "more than 65535 products";
  if (call.out.shape[2] > INT32_MAX || call.out.shape[3] > 65535 * kFmaTile || a.shape[3] > INT32_MAX / 2)
    return "too large for 32-bit row numbers";
  return nullptr;
}

void enqueue(const KernelCall& call, const Stream& stream) {
  const auto& attrs = call.attributes<MatmulAttrs>();
  const TensorView &a = call.in[MatmulAttrs::kA], &b = call.in[MatmulAttrs::kB], &out = call.out;
  by_types(a.dtype, out.dtype, [&](auto in, auto result) {
    using In = decltype(in);
    using Out = decltype(result);
    Params<In, Out> p{};
    p.a = global<const In>(a, "A");
    p.b = global<const In>(b, "B");
    p.out = global<Out>(out, "out");
    for (size_t i = 0; i < 3; ++i) {
      p.a_stride[i] = a.stride[i];
      p.b_stride[i] = b.stride[i];
      p.out_stride[i] = out.stride[i];
    }
    p.b_k = attrs.transpose_b ? 1 : b.stride[2];
    p.b_column = attrs.transpose_b ? b.stride[2] : 1;
    p.heads = uint32_t(out.shape[1]);
    p.rows = uint32_t(out.shape[2]);
    p.columns = uint32_t(out.shape[3]);
    p.depth = uint32_t(a.shape[3]);
    p.vectors = rows_of_runs(out, 4);
    p.alpha = attrs.alpha;
    launch_grid(stream, "matmul",
                {blocks_for(p.rows, kFmaTile), blocks_for(p.columns, kFmaTile), uint32_t(out.shape[0] * out.shape[1])},
                kFmaThreads, 0, matmul<In, Out>, p);
  });
}

}  // namespace

extern const KernelDef matmul_sm80_fma;
const KernelDef matmul_sm80_fma = {
    .op = OpKind::matmul,
    .variant = "sm80_fma",
    .isa = Isa::sm80,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue,
};

}  // namespace darkroom::kernels

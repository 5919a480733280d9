// softmax for GPUs: one warp a row: its maximum, the sum of exponentials, then the quotients; the row is read three times,
// twice of them from L1 or L2. Runs only where attention is taken apart.
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kRows = 4, kThreads = kRows * kWarp;

template <typename In, typename Out>
struct Params {
  Global<const In> x;
  Global<Out> out;
  RowMap x_rows, out_rows;
  uint32_t rows, rows_of_mask;  // rows_of_mask 0: no mask
  int64_t channels;
  bool vectors;
};

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) softmax(const __grid_constant__ Params<In, Out> p) {
  const uint32_t row = blockIdx.x * kRows + uint32_t(warp_index());
  if (row >= p.rows) return;
  const Global<const In> x = p.x + row_offset(p.x_rows, row);
  const Global<Out> out = p.out + row_offset(p.out_rows, row);
  const int64_t seen = p.rows_of_mask ? int64_t(row % p.rows_of_mask) + 1 : p.channels;
  // A lane's run of channels; where rows do not allow that, channels 32 apart, so that a warp still reads neighbours.
  constexpr int kN = kRun<In, Out>;
  const int apart = p.vectors ? 1 : kWarp;
  const int64_t begin = p.vectors ? lane_index() * kN : lane_index(), step = kWarp * kN;
  float v[kN];

  float most = -INFINITY;
  for (int64_t c = begin; c < p.channels; c += step) {
    load_run<In, kWarp>(v, x + c, p.vectors, p.channels - c);
    DARKROOM_UNROLL
    for (int i = 0; i < kN; ++i) most = c + i * apart < seen ? fmaxf(most, v[i]) : most;
  }
  most = warp_max(most);
  float sum = 0;
  for (int64_t c = begin; c < p.channels; c += step) {
    load_run<In, kWarp>(v, x + c, p.vectors, p.channels - c);
    DARKROOM_UNROLL
    for (int i = 0; i < kN; ++i) sum += c + i * apart < seen ? expf(v[i] - most) : 0.0f;
  }
  const float scale = 1.0f / warp_sum(sum);
  for (int64_t c = begin; c < p.channels; c += step) {
    load_run<In, kWarp>(v, x + c, p.vectors, p.channels - c);
    DARKROOM_UNROLL
    for (int i = 0; i < kN; ++i) v[i] = c + i * apart < seen ? expf(v[i] - most) * scale : 0.0f;
    store_run<Out, kWarp>(out + c, v, p.vectors, p.channels - c);
  }
}

const char* reject(const KernelCall& call) {
  if (!is_type_pair(call.in[SoftmaxAttrs::kX].dtype, call.out.dtype))
    return "x and out must be f32, bf16 or f16, not bf16 and f16";
  if (!fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  return nullptr;
}

void enqueue(const KernelCall& call, const Stream& stream) {
  const TensorView& x = call.in[SoftmaxAttrs::kX];
  by_types(x.dtype, call.out.dtype, [&](auto in, auto out) {
    using In = decltype(in);
    using Out = decltype(out);
    Params<In, Out> p{};
    p.x = global<const In>(x, "x");
    p.out = global<Out>(call.out, "out");
    p.x_rows = row_map(x);
    p.out_rows = row_map(call.out);
    p.rows = uint32_t(x.rows());
    p.rows_of_mask = call.attributes<SoftmaxAttrs>().causal ? uint32_t(x.shape[-2]) : 0;
    p.channels = x.channels();
    p.vectors = rows_of_runs(x, kRun<In, Out>) && rows_of_runs(call.out, kRun<In, Out>);
    launch_grid(stream, "softmax", {blocks_for(p.rows, kRows)}, kThreads, 0, softmax<In, Out>, p);
  });
}

}  // namespace

extern const KernelDef softmax_sm80;
const KernelDef softmax_sm80 = {
    .op = OpKind::softmax,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue,
};

}  // namespace darkroom::kernels

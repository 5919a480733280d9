// layer_norm for GPUs: one warp a row. The mean first, rounded to f32; then the deviations from that and their squares, which
// also say by how much the rounded mean is wrong, so that a large mean costs no digits. The row is read three times, twice of
// them from L1.
//
// Floor: the bytes, read once and written once. Four warps a block, no shared memory. Four channels to a lane at a time: gamma and
// beta are f32.
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kRows = 4, kThreads = kRows * kWarp;
constexpr int kN = kRun<float, float>;  // channels of a lane at a time

template <typename In, typename Out>
struct Params {
  Global<const In> x;
  Global<const float> gamma, beta;
  Global<Out> out;
  RowMap x_rows, out_rows;
  uint32_t rows;
  int64_t channels;
  float eps;
  bool vectors;
};

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) layer_norm(const __grid_constant__ Params<In, Out> p) {
  const uint32_t row = blockIdx.x * kRows + uint32_t(warp_index());
  if (row >= p.rows) return;
  const Global<const In> x = p.x + row_offset(p.x_rows, row);
  const int64_t begin = lane_index() * kN, step = kWarp * kN;
  float v[kN];

  float sum = 0;
  for (int64_t c = begin; c < p.channels; c += step) {
    load_run<In>(v, x + c, p.vectors, p.channels - c);
    DARKROOM_UNROLL
    for (int i = 0; i < kN; ++i) sum += v[i];
  }
  const float mean = warp_sum(sum) / float(p.channels);
  float rest = 0, squares = 0;
  for (int64_t c = begin; c < p.channels; c += step) {
    load_run<In>(v, x + c, p.vectors, p.channels - c);
    DARKROOM_UNROLL
    for (int i = 0; i < kN; ++i) {
      const float d = c + i < p.channels ? v[i] - mean : 0.0f;
      rest += d;
      squares += d * d;
    }
  }
  rest = warp_sum(rest) / float(p.channels);
  const float scale = 1.0f / sqrtf(warp_sum(squares) / float(p.channels) - rest * rest + p.eps);
  const Global<Out> out = p.out + row_offset(p.out_rows, row);
  for (int64_t c = begin; c < p.channels; c += step) {
    float gamma[kN], beta[kN];
    const int64_t n = p.channels - c;
    load_run<In>(v, x + c, p.vectors, n);
    load_run<float>(gamma, p.gamma + c, p.vectors, n);
    load_run<float>(beta, p.beta + c, p.vectors, n);
    DARKROOM_UNROLL
    for (int i = 0; i < kN; ++i) v[i] = (v[i] - mean - rest) * scale * gamma[i] + beta[i];
    store_run<Out>(out + c, v, p.vectors, n);
  }
}

const char* reject(const KernelCall& call) {
  if (!is_type_pair(call.in[LayerNormAttrs::kX].dtype, call.out.dtype))
    return "x and out must be f32, bf16 or f16, not bf16 and f16";
  if (!fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  return nullptr;
}

void enqueue(const KernelCall& call, const Stream& stream) {
  using S = LayerNormAttrs;
  const TensorView& x = call.in[S::kX];
  by_types(x.dtype, call.out.dtype, [&](auto in, auto out) {
    using In = decltype(in);
    using Out = decltype(out);
    Params<In, Out> p{};
    p.x = global<const In>(x, "x");
    p.gamma = global<const float>(call.in[S::kGamma], "gamma");
    p.beta = global<const float>(call.in[S::kBeta], "beta");
    p.out = global<Out>(call.out, "out");
    p.x_rows = row_map(x);
    p.out_rows = row_map(call.out);
    p.rows = uint32_t(x.rows());
    p.channels = x.channels();
    p.eps = call.attributes<LayerNormAttrs>().eps;
    p.vectors = rows_of_runs(x, kN) && rows_of_runs(call.out, kN) && rows_of_runs(call.in[S::kGamma], kN) &&
                rows_of_runs(call.in[S::kBeta], kN);
    launch_grid(stream, "layer_norm", {blocks_for(p.rows, kRows)}, kThreads, 0, layer_norm<In, Out>, p);
  });
}

}  // namespace

extern const KernelDef layer_norm_sm80;
const KernelDef layer_norm_sm80 = {
    .op = OpKind::layer_norm,
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

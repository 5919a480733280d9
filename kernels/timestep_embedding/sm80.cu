// timestep_embedding for GPUs: one thread for a sine and its cosine. The frequencies are computed on the host, rounded as
// the definition rounds them, and come with the launch: t·e up to 1000 makes an error of one bit in e one of 1e-4.
#include <cmath>

#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 128, kMaxHalf = 640;

template <typename Out>
struct Params {
  Global<const float> t;
  Global<Out> out;
  RowMap t_rows, out_rows;
  uint32_t times, half, times_a_row;
  bool own_rows;  // each time has a row of its own in out; else times of a row lie side by side
  uint32_t sine_at, cosine_at;
  float frequency[kMaxHalf];
};

struct SineCosine {
  float sine, cosine;
};

// To 1.5 units in the last place for |x| up to 1e9: the whole quarter turns are taken off in double. sinf() would do for such
// angles, but carries an array in local memory for larger ones.  Source of the polynomials: Moshier, Cephes, sinf and cosf.
DARKROOM_DEVICE SineCosine sine_and_cosine(float x) {
  constexpr double kQuarter = 1.5707963267948966;
  const double quarters = rint(double(x) / kQuarter);
  const float r = float(double(x) - quarters * kQuarter), z = r * r;
  const float s = fmaf(fmaf(fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f) * z, r, r);
  const float even = fmaf(fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f);
  const float c = fmaf(even, z * z, fmaf(-0.5f, z, 1.0f));
  const int q = int(int64_t(quarters) & 3);
  const float sine = q % 2 == 0 ? s : c, cosine = q % 2 == 0 ? c : s;
  return {q < 2 ? sine : -sine, q == 1 || q == 2 ? -cosine : cosine};
}

template <typename Out>
__global__ void __launch_bounds__(kThreads) timestep_embedding(const __grid_constant__ Params<Out> p) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t time = item / p.half, i = item % p.half;
  if (time >= p.times) return;
  const uint32_t row = time / p.times_a_row, column = time % p.times_a_row;
  const float angle = load(p.t + (row_offset(p.t_rows, row) + column)) * p.frequency[i];
  const int64_t begin =
      p.own_rows ? row_offset(p.out_rows, time) : row_offset(p.out_rows, row) + int64_t(column) * 2 * p.half;
  const SineCosine both = sine_and_cosine(angle);
  store(p.out + (begin + p.sine_at + i), narrow<Out>(both.sine));
  store(p.out + (begin + p.cosine_at + i), narrow<Out>(both.cosine));
}

const char* reject(const KernelCall& call) {
  if (call.in[TimestepEmbeddingAttrs::kT].dtype != DType::f32) return "t must be f32";
  if (!is_type_pair(DType::f32, call.out.dtype)) return "out must be f32, bf16 or f16";
  if (call.attributes<TimestepEmbeddingAttrs>().dim > 2 * kMaxHalf) return "dim is larger than 1280";
  if (!fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  return nullptr;
}

void enqueue(const KernelCall& call, const Stream& stream) {
  const auto& attrs = call.attributes<TimestepEmbeddingAttrs>();
  const TensorView& t = call.in[TimestepEmbeddingAttrs::kT];
  by_type(call.out.dtype, [&](auto out) {
    using Out = decltype(out);
    Params<Out> p{};
    p.t = global<const float>(t, "t");
    p.out = global<Out>(call.out, "out");
    p.t_rows = row_map(t);
    p.out_rows = row_map(call.out);
    p.times = uint32_t(t.shape.elements());
    p.half = uint32_t(attrs.dim / 2);
    p.times_a_row = uint32_t(t.channels());
    p.own_rows = t.rank() == 1;
    p.sine_at = attrs.flip_sin_to_cos ? p.half : 0;
    p.cosine_at = p.half - p.sine_at;
    const float log_period = float(-std::log(double(attrs.max_period)));
    const float steps = float(double(p.half) - double(attrs.freq_shift));
    for (uint32_t i = 0; i < p.half; ++i) p.frequency[i] = float(std::exp(double(log_period * float(i) / steps)));
    launch_grid(stream, "timestep_embedding", {blocks_for(int64_t(p.times) * p.half, kThreads)}, kThreads, 0,
                timestep_embedding<Out>, p);
  });
}

}  // namespace

extern const KernelDef timestep_embedding_sm80;
const KernelDef timestep_embedding_sm80 = {
    .op = OpKind::timestep_embedding,
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

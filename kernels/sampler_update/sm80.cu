// sampler_update for GPUs: one thread for four neighbouring elements, the coefficients read from memory by each.
//
// Bytes: 4 (n + 1) an element, nothing else to gain. Where the arrays are not 16-byte aligned, or at the end, one by one.
#include "kernels/core/cuda/device.h"
#include "kernels/core/cuda/host.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kMaxTerms = kMaxInputs - 1;

struct Params {
  Global<const float> coefficients, x[kMaxTerms];
  Global<float> out;
  int64_t elements;
  int terms;
  bool vectors;
};

__global__ void __launch_bounds__(kThreads) sampler_update(const __grid_constant__ Params p) {
  const int64_t first = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * 4;
  float sum[4] = {};
  if (p.vectors && first + 4 <= p.elements) {
    for (int k = 0; k < p.terms; ++k) {
      const float c = load(p.coefficients + k);
      const auto x = load(as<Vec<float, 4>>(p.x[k] + first));
      DARKROOM_UNROLL
      for (int i = 0; i < 4; ++i) sum[i] = k == 0 ? c * x.v[i] : fmaf(c, x.v[i], sum[i]);
    }
    store(as<Vec<float, 4>>(p.out + first), Vec<float, 4>{{sum[0], sum[1], sum[2], sum[3]}});
    return;
  }
  for (int i = 0; i < 4 && first + i < p.elements; ++i) {
    float v = 0;
    for (int k = 0; k < p.terms; ++k) {
      const float c = load(p.coefficients + k), x = load(p.x[k] + (first + i));
      v = k == 0 ? c * x : fmaf(c, x, v);
    }
    store(p.out + (first + i), v);
  }
}

const char* reject(const KernelCall& call) {
  using S = SamplerUpdateAttrs;
  if (call.out.dtype != DType::f32 || !call.out.is_dense()) return "out must be dense f32";
  for (int k = 0; k < kMaxTerms; ++k) {
    const TensorView& x = call.in[S::kFirst + k];
    if (x.present() && (x.dtype != DType::f32 || !x.is_dense())) return "inputs must be dense f32";
  }
  return nullptr;
}

void enqueue(const KernelCall& call, const Stream& stream) {
  using S = SamplerUpdateAttrs;
  Params p{};
  p.coefficients = global<const float>(call.in[S::kCoefficients], "coefficients");
  p.terms = int(call.in[S::kCoefficients].shape[0]);
  p.vectors = is_aligned(call.out.data, 16);
  for (int k = 0; k < p.terms; ++k) {
    p.x[k] = global<const float>(call.in[S::kFirst + k], "x");
    p.vectors = p.vectors && is_aligned(call.in[S::kFirst + k].data, 16);
  }
  p.out = global<float>(call.out, "out");
  p.elements = call.out.shape.elements();
  launch_grid(stream, "sampler_update", {blocks_for(p.elements, kThreads * 4)}, kThreads, 0, sampler_update, p);
}

}  // namespace

extern const KernelDef sampler_update_sm80;
const KernelDef sampler_update_sm80 = {
    .op = OpKind::sampler_update,
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

// to_rgb for GPUs: one thread four neighbouring channels of a dense picture, moved at once; one by one at its end.
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256, kEach = 4;

template <typename T>
struct Params {
  Global<const T> x;
  Global<uint8_t> out;
  uint32_t elements;
  bool vectors;
  float scale, shift;
};

template <typename T>
__global__ void __launch_bounds__(kThreads) to_rgb(const __grid_constant__ Params<T> p) {
  const uint32_t first = (blockIdx.x * kThreads + threadIdx.x) * kEach;
  if (first >= p.elements) return;
  const uint32_t n = p.elements - first;
  const bool vector = p.vectors && n >= kEach;
  float x[kEach];
  load_run<T>(x, p.x + first, vector, n);
  Vec<uint8_t, kEach> level;
  DARKROOM_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const float v = x[i] * p.scale + p.shift;
    level.v[i] = uint8_t(rintf((v > 0 ? (v < 1 ? v : 1.0f) : 0.0f) * 255.0f));  // NaN is not > 0
  }
  if (vector) {
    store(as<Vec<uint8_t, kEach>>(p.out + first), level);
    return;
  }
  DARKROOM_UNROLL
  for (uint32_t i = 0; i < kEach; ++i)
    if (i < n) store(p.out + (first + i), level.v[i]);
}

const char* reject(const KernelCall& call) {
  const TensorView& x = call.in[ToRgbAttrs::kX];
  if (x.dtype != DType::f32 && x.dtype != DType::bf16 && x.dtype != DType::f16) return "x must be f32, bf16 or f16";
  if (!x.is_dense() || !call.out.is_dense()) return "x and out must be dense";
  if (x.shape.elements() >= (int64_t(1) << 31)) return "too large for 32-bit element numbers";
  return nullptr;
}

void enqueue(const KernelCall& call, const Stream& stream) {
  const TensorView& x = call.in[ToRgbAttrs::kX];
  const auto& attrs = call.attributes<ToRgbAttrs>();
  by_type(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Params<T> p{};
    p.x = global<const T>(x, "x");
    p.out = global<uint8_t>(call.out, "out");
    p.elements = uint32_t(x.shape.elements());
    p.vectors = is_aligned(x.data, kEach * sizeof(T)) && is_aligned(call.out.data, kEach);
    p.scale = attrs.scale;
    p.shift = attrs.shift;
    launch_grid(stream, "to_rgb", {blocks_for(p.elements, kThreads * kEach)}, kThreads, 0, to_rgb<T>, p);
  });
}

}  // namespace

extern const KernelDef to_rgb_sm80;
const KernelDef to_rgb_sm80 = {
    .op = OpKind::to_rgb,
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

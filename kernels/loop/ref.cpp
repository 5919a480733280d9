// The definitions of loop_input, loop_update and loop_advance.
#include <algorithm>

#include "kernels/core/kernel.h"
#include "kernels/loop/philox.h"

namespace darkroom::kernels {
namespace {

// The row of the table that `index` points at; clamped, so that no number in memory leads out of it.
const LoopCall& current(const TensorView& calls, const TensorView& index) {
  const int64_t i = std::clamp<int64_t>(*index.as<int32_t>(), 0, calls.shape[0] - 1);
  return *reinterpret_cast<const LoopCall*>(calls.as<int32_t>() + i * kLoopCallWords);
}

void launch_input(const KernelCall& call, const Team& team) {
  using S = LoopInputAttrs;
  const float scale = current(call.in[S::kCalls], call.in[S::kIndex]).input_scale;
  const float *x = call.in[S::kSlots].as<float>(), *extra = call.in[S::kExtra].as<float>();
  const int64_t C = call.in[S::kSlots].channels(), width = call.out.channels(),
                pixels = call.out.rows() / call.out.shape[0];
  const auto [first, last] = team.range(call.out.rows());
  for (int64_t r = first; r < last; ++r) {
    const int64_t p = r % pixels;
    float* to = call.out.as<float>() + r * width;
    for (int64_t c = 0; c < C; ++c) to[c] = scale * x[p * C + c];
    for (int64_t c = C; c < width; ++c) to[c] = extra[p * (width - C) + c - C];
  }
}

void launch_update(const KernelCall& call, const Team& team) {
  using S = LoopUpdateAttrs;
  const LoopCall& now = current(call.in[S::kCalls], call.in[S::kIndex]);
  const Shape& shape = call.out.shape;
  const int64_t slots = shape[0], C = shape[3], pixels = shape[1] * shape[2], n = pixels * C;
  const float *model = call.in[S::kModel].as<float>(), *in = call.in[S::kSlots].as<float>();
  const int64_t halves = call.in[S::kModel].shape[0];
  const auto [first, last] = team.range(n);
  for (int64_t i = first; i < last; ++i) {
    float v[LoopCall::kMaxSlots];
    for (int64_t k = 0; k < slots; ++k) v[k] = in[k * n + i];
    double guided = 0;
    for (int64_t b = 0; b < halves; ++b) guided += double(now.guidance[b]) * model[b * n + i];
    v[kLoopModel] = float(guided);
    if (now.draw >= 0)
      v[kLoopNoise] = philox_normal(now.seed[0], now.seed[1], uint32_t(now.draw), uint32_t(i % C * pixels + i / C));
    for (int u = 0; u < now.updates; ++u) {
      double sum = 0;
      for (int64_t k = 0; k < slots; ++k)
        if (now.update[u].c[k] != 0) sum += double(now.update[u].c[k]) * v[k];
      v[now.update[u].slot] = float(sum);
    }
    if (call.in[S::kKeep].present()) {
      const double x = v[kLoopLatents], joined = double(now.image_signal) * call.in[S::kImage].as<float>()[i] +
                                                 double(now.image_noise) * call.in[S::kStart].as<float>()[i];
      v[kLoopLatents] = float(x + call.in[S::kKeep].as<float>()[i] * (joined - x));
    }
    for (int64_t k = 0; k < slots; ++k) call.out.as<float>()[k * n + i] = v[k];
  }
}

void launch_advance(const KernelCall& call, const Team& team) {
  if (team.index == 0) *call.out.as<int32_t>() = *call.in[LoopAdvanceAttrs::kIndex].as<int32_t>() + 1;
}

const char* accept(const KernelCall&) { return nullptr; }

constexpr KernelDef definition(OpKind op, void (*launch)(const KernelCall&, const Team&)) {
  return {.op = op,
          .variant = "ref",
          .isa = Isa::baseline,
          .reject = accept,
          .scratch_bytes = nullptr,
          .pack_format = {},
          .packed_bytes = nullptr,
          .pack = nullptr,
          .launch = launch};
}

}  // namespace

extern const KernelDef loop_input_ref, loop_update_ref, loop_advance_ref;
const KernelDef loop_input_ref = definition(OpKind::loop_input, launch_input);
const KernelDef loop_update_ref = definition(OpKind::loop_update, launch_update);
const KernelDef loop_advance_ref = definition(OpKind::loop_advance, launch_advance);

}  // namespace darkroom::kernels

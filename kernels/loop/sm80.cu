// loop_input, loop_update and loop_advance for GPUs: one thread an element of the latents, its slots in registers.
//
// Bytes: each slot once in and once out, 16 K elements for a 512×512 picture: a launch, not a stream, is what it costs. Every
// thread reads the same row of the table, which the caches broadcast. Noise is computed in f64, 2 logarithms and sines an
// element, so that its bits are those of the CPU's.
#include <cstddef>

#include "kernels/core/cuda/device.h"
#include "kernels/core/cuda/host.h"
#include "kernels/loop/philox.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 128;

constexpr int kInputScale = offsetof(LoopCall, input_scale) / 4, kGuidance = offsetof(LoopCall, guidance) / 4,
              kImageSignal = offsetof(LoopCall, image_signal) / 4, kImageNoise = offsetof(LoopCall, image_noise) / 4,
              kDraw = offsetof(LoopCall, draw) / 4, kSeed = offsetof(LoopCall, seed) / 4,
              kUpdates = offsetof(LoopCall, updates) / 4, kUpdate = offsetof(LoopCall, update) / 4,
              kUpdateWords = sizeof(LoopCall::Update) / 4;

// The table, and the number of the row that is meant.
struct Table {
  Global<const int32_t> calls, index;
  int rows;
};
Table table_of(const KernelCall& call, int calls, int index) {
  return {global<const int32_t>(call.in[calls], "calls"), global<const int32_t>(call.in[index], "index"),
          int(call.in[calls].shape[0])};
}
DARKROOM_DEVICE Global<const int32_t> row_of(const Table& t) {
  int i = load(t.index);
  i = i < 0 ? 0 : i;
  i = i < t.rows ? i : t.rows - 1;
  return t.calls + i * kLoopCallWords;
}
DARKROOM_DEVICE float number(const Global<const int32_t>& row, int word) {
  return bits_float(uint32_t(load(row + word)));
}

struct InputParams {
  Table table;
  Global<const float> x, extra;
  Global<float> out;
  uint32_t elements, pixels, channels, width;
};

__global__ void __launch_bounds__(kThreads) loop_input(const __grid_constant__ InputParams p) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= p.elements) return;
  const uint32_t c = i % p.width, pixel = i / p.width % p.pixels;
  const float v = c < p.channels ? number(row_of(p.table), kInputScale) * load(p.x + (pixel * p.channels + c))
                                 : load(p.extra + (pixel * (p.width - p.channels) + c - p.channels));
  store(p.out + i, v);
}

struct UpdateParams {
  Table table;
  Global<const float> model, slots, keep, image, start;
  Global<float> out;
  uint32_t n, channels, pixels, halves;
  int slot_count;
};

__global__ void __launch_bounds__(kThreads) loop_update(const __grid_constant__ UpdateParams p) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i >= p.n) return;
  const Global<const int32_t> row = row_of(p.table);
  float v[LoopCall::kMaxSlots];
  DARKROOM_UNROLL
  for (int k = 0; k < LoopCall::kMaxSlots; ++k) v[k] = k < p.slot_count ? load(p.slots + (int64_t(k) * p.n + i)) : 0.0f;

  float guided = number(row, kGuidance) * load(p.model + i);
  if (p.halves == 2) guided = fmaf(number(row, kGuidance + 1), load(p.model + (p.n + i)), guided);
  v[kLoopModel] = guided;
  const int draw = load(row + kDraw);
  if (draw >= 0)
    v[kLoopNoise] = philox_normal(uint32_t(load(row + kSeed)), uint32_t(load(row + kSeed + 1)), uint32_t(draw),
                                  i % p.channels * p.pixels + i / p.channels);
  const int updates = load(row + kUpdates);
  for (int u = 0; u < updates; ++u) {
    const Global<const int32_t> update = row + (kUpdate + u * kUpdateWords);
    const int slot = load(update);
    float sum = 0;
    DARKROOM_UNROLL
    for (int k = 0; k < LoopCall::kMaxSlots; ++k) {
      const float c = number(update, 1 + k);
      if (c != 0) sum = fmaf(c, v[k], sum);
    }
    // The slot is the same for all threads: registers are chosen by comparisons, not by an address.
    DARKROOM_UNROLL
    for (int k = 0; k < LoopCall::kMaxSlots; ++k) v[k] = k == slot ? sum : v[k];
  }
  if (p.keep != nullptr) {
    const float joined =
        fmaf(number(row, kImageNoise), load(p.start + i), number(row, kImageSignal) * load(p.image + i));
    v[kLoopLatents] = fmaf(load(p.keep + i), joined - v[kLoopLatents], v[kLoopLatents]);
  }
  DARKROOM_UNROLL
  for (int k = 0; k < LoopCall::kMaxSlots; ++k)
    if (k < p.slot_count) store(p.out + (int64_t(k) * p.n + i), v[k]);
}

struct AdvanceParams {
  Global<const int32_t> index;
  Global<int32_t> out;
};

__global__ void __launch_bounds__(kWarp) loop_advance(const __grid_constant__ AdvanceParams p) {
  if (threadIdx.x == 0) store(p.out, load(p.index) + 1);
}

const char* reject(const KernelCall& call) {
  if (call.out.shape.elements() >= (int64_t(1) << 31)) return "too large for 32-bit element numbers";
  return nullptr;
}

void enqueue_input(const KernelCall& call, const Stream& stream) {
  using S = LoopInputAttrs;
  InputParams p{};
  p.table = table_of(call, S::kCalls, S::kIndex);
  p.x = global<const float>(call.in[S::kSlots], "slots");
  p.extra = global<const float>(call.in[S::kExtra], "extra");
  p.out = global<float>(call.out, "out");
  p.elements = uint32_t(call.out.shape.elements());
  p.pixels = uint32_t(call.out.shape[1] * call.out.shape[2]);
  p.channels = uint32_t(call.in[S::kSlots].channels());
  p.width = uint32_t(call.out.channels());
  launch_grid(stream, "loop_input", {blocks_for(p.elements, kThreads)}, kThreads, 0, loop_input, p);
}

void enqueue_update(const KernelCall& call, const Stream& stream) {
  using S = LoopUpdateAttrs;
  UpdateParams p{};
  p.table = table_of(call, S::kCalls, S::kIndex);
  p.model = global<const float>(call.in[S::kModel], "model");
  p.slots = global<const float>(call.in[S::kSlots], "slots");
  p.keep = global<const float>(call.in[S::kKeep], "keep");
  p.image = global<const float>(call.in[S::kImage], "image");
  p.start = global<const float>(call.in[S::kStart], "start");
  p.out = global<float>(call.out, "out");
  const Shape& shape = call.out.shape;
  p.slot_count = int(shape[0]);
  p.channels = uint32_t(shape[3]);
  p.pixels = uint32_t(shape[1] * shape[2]);
  p.n = p.pixels * p.channels;
  p.halves = uint32_t(call.in[S::kModel].shape[0]);
  launch_grid(stream, "loop_update", {blocks_for(p.n, kThreads)}, kThreads, 0, loop_update, p);
}

void enqueue_advance(const KernelCall& call, const Stream& stream) {
  const AdvanceParams p{global<const int32_t>(call.in[LoopAdvanceAttrs::kIndex], "index"),
                        global<int32_t>(call.out, "out")};
  launch_grid(stream, "loop_advance", {1}, kWarp, 0, loop_advance, p);
}

constexpr KernelDef definition(OpKind op, void (*enqueue)(const KernelCall&, const Stream&)) {
  return {.op = op,
          .variant = "sm80",
          .isa = Isa::sm80,
          .reject = reject,
          .scratch_bytes = nullptr,
          .pack_format = {},
          .packed_bytes = nullptr,
          .pack = nullptr,
          .enqueue = enqueue};
}

}  // namespace

extern const KernelDef loop_input_sm80, loop_update_sm80, loop_advance_sm80;
const KernelDef loop_input_sm80 = definition(OpKind::loop_input, enqueue_input);
const KernelDef loop_update_sm80 = definition(OpKind::loop_update, enqueue_update);
const KernelDef loop_advance_sm80 = definition(OpKind::loop_advance, enqueue_advance);

}  // namespace darkroom::kernels

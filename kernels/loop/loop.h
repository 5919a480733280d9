// The denoising loop around the network, as ops, so that a call of the network with all that belongs to it is one plan (on a
// GPU: one launch).   loop_input: what the network sees.   loop_update: guidance, noise, the sampler's updates.
// loop_advance: on to the next call.
//
// What differs from call to call lies in memory, one LoopCall a call, and so does the number of the call: the plan, and a
// captured graph of it, stays the same for all of them. The state is one tensor of slots [S, H, W, C] f32: the latents, the
// network's guided output, fresh noise, and what a sampler remembers (model/samplers.h).
#pragma once

#include <cstdint>

namespace darkroom {

// One row of the table `calls` [N, kLoopCallWords] i32: this struct, word by word.
struct LoopCall {
  static constexpr int kMaxUpdates = 6, kMaxSlots = 8;
  struct Update {
    int32_t slot;
    float c[kMaxSlots];
  };

  float input_scale;                // the network sees input_scale · x
  float guidance[2];                // model = Σ guidance[b] · out[b] over the halves of the batch
  float image_signal, image_noise;  // the level at which what a mask keeps joins after this call
  int32_t draw;                // which draw of Philox noise (0, 1, …) this call makes; −1: the noise slot stays
  uint32_t seed[2];            // of it: low word, high word
  int32_t updates;             // how many of:
  Update update[kMaxUpdates];  // slot = Σ c[k] · slot k, one after the other; a slot whose c is 0 is not read
};
inline constexpr int64_t kLoopCallWords = sizeof(LoopCall) / sizeof(int32_t);
static_assert(sizeof(LoopCall) % sizeof(int32_t) == 0);

// The slots that the ops themselves know.
inline constexpr int kLoopLatents = 0, kLoopModel = 1, kLoopNoise = 2;

// out[b, y, x, c] = input_scale · latents[y, x, c] for c < C, else extra[y, x, c − C].
// calls, index [1] i32, slots [S, H, W, C] f32, extra [H, W, E] f32 (optional); out [batch, H, W, C + E] f32. All dense.
struct LoopInputAttrs {
  enum In { kCalls, kIndex, kSlots, kExtra };
  int64_t batch = 2;

  bool operator==(const LoopInputAttrs&) const = default;
};

// slot model = guided output; slot noise = Philox, where the call draws; then the updates; then, where there is a mask,
//   latents += keep · (image_signal · image + image_noise · start − latents).
// calls, index [1] i32, model [B, H, W, C] f32 (B 1 or 2), slots and out [S, H, W, C] f32 (3 ≤ S ≤ 8; out may be slots);
// keep, image, start [H, W, C] f32 (all or none). All dense. Philox as torch's CUDA generator draws a tensor [C, H, W]:
// element i of draw d is Box–Muller with the sine of words 0 and 1 of Philox 4×32-10 (counter (d, 0, i, 0), key = seed).
// Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3 (2011).
struct LoopUpdateAttrs {
  enum In { kCalls, kIndex, kModel, kSlots, kKeep, kImage, kStart };

  bool operator==(const LoopUpdateAttrs&) const = default;
};

// out = index + 1. index and out [1] i32; out may be index.
struct LoopAdvanceAttrs {
  enum In { kIndex };

  bool operator==(const LoopAdvanceAttrs&) const = default;
};

}  // namespace darkroom

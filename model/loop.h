// The denoising loop on the device: a call of the network with its input, guidance, noise and the sampler's updates is one
// sequence of plans (on a GPU one launch), the same for every call.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "model/denoiser.h"
#include "model/samplers.h"

namespace darkroom {

// One run of the loop. Tensors are f32 and lie as H W C, of the latents' size.
struct LoopRequest {
  const SamplerProgram* program = nullptr;
  const Conditioning* conditioning = nullptr;
  float guidance = 1;          // of a batch of two, [without, with]: out0 + guidance · (out1 − out0)
  std::vector<float> latents;  // where it begins
  std::vector<float> extra;    // [H, W, E]: what an inpainting network reads beside the latents; may be empty
  std::vector<float> keep, image, start;  // of a mask: see loop_update in kernels/loop/loop.h; may be empty
  std::optional<uint64_t>
      philox_seed;  // noise is made on the device: torch's CUDA generator, from draw `first_draw` on
  uint32_t first_draw = 0;
};

class Loop {
 public:
  // options.batch: 1, or 2 with guidance.
  Loop(Session& session, const UNetConfig& config, const UNetGraphOptions& options);

  const UNetGraphOptions& options() const { return options_; }

  // Everything up to the first call. Throws internal_error where sizes do not fit.
  void begin(const LoopRequest& request);
  // The next call. Allocates nothing. False where it was cancelled. Where the call draws and the device does not make the
  // noise, write_noise() comes first.
  bool run(const std::atomic<bool>* cancel = nullptr);
  void write_noise(const std::vector<float>& noise) { write(kSlotNoise, noise); }

  // What a slot (samplers.h) holds now.
  std::vector<float> read(int slot);

  const Denoiser& denoiser() const { return denoiser_; }

 private:
  void plan(const LoopRequest& request);
  void write(int slot, const std::vector<float>& values);

  Session& session_;
  UNetGraphOptions options_;
  int64_t channels_, extra_channels_;
  Denoiser denoiser_;
  std::unique_ptr<Program> input_, update_, advance_;
  std::unique_ptr<Runner> runner_;
  std::array<Program*, 5> sequence_{};  // what runner_ runs
  std::byte* slots_ = nullptr;          // [S, H, W, C] f32 on the device: the update's input and output
  // What input_ and update_ are planned for.
  int slot_count_ = 0;
  size_t calls_ = 0;
  bool masked_ = false;
};

// The table of the loop's ops for a program: one LoopCall a call, as words. Throws internal_error where the program has more
// updates a call, or more slots, than a LoopCall.
std::vector<int32_t> loop_calls(const LoopRequest& request, int64_t batch);

}  // namespace darkroom

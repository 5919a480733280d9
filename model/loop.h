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
  const Conditioning* conditioning =
      nullptr;                 // with guided calls two rows a sample, [without, with] the prompt; else one
  int guided_calls = 0;        // so many of the first calls are guided:
  float guidance = 1;          // out0 + guidance · (out1 − out0)
  std::vector<float> latents;  // where it begins
  std::vector<float> extra;    // [H, W, E]: what an inpainting network reads beside the latents; may be empty
  std::vector<float> keep, image, start;  // of a mask: see loop_update in kernels/loop/loop.h; may be empty
  std::optional<uint64_t> philox_seed;  // noise is made on the device: torch's CUDA generator, from draw first_draw on
  uint32_t first_draw = 0;
};

class Loop {
 public:
  // Of the options height, width, tokens and dtype count; `reuse` as the Denoiser's.
  Loop(Session& session, const UNetConfig& config, const UNetGraphOptions& options, int reuse = 1);

  const UNetGraphOptions& options() const { return options_; }
  int reuse() const { return reuse_; }

  // Everything up to the first call. Throws internal_error where sizes do not fit.
  void begin(const LoopRequest& request);
  // The next call. Allocates nothing. False where it was cancelled. Where the call draws and the device does not make the
  // noise, write_noise() comes first.
  bool run(const std::atomic<bool>* cancel = nullptr);
  void write_noise(const std::vector<float>& noise) { write_slot(kSlotNoise, noise); }

  // What a slot (samplers.h) holds now.
  std::vector<float> read(int slot);

 private:
  struct Buffer {
    DeviceMemory memory;
    size_t bytes = 0;
    std::byte* data() const { return memory.data(); }
  };
  // The calls with guidance, or those without.
  struct Phase {
    std::unique_ptr<Denoiser> denoiser;
    std::unique_ptr<Program> update, advance;
    std::array<std::unique_ptr<Runner>, 2> runners;  // of a call, deep and shallow
    std::array<Program*, 5> sequence{};              // what runners[0] runs
  };

  void plan(const LoopRequest& request);
  void prepare(Phase& phase, bool guided, const LoopRequest& request);
  void write_slot(int slot, const std::vector<float>& values);
  template <typename T>
  void give(Buffer& buffer, const std::vector<T>& values);

  Session& session_;
  UNetConfig config_;
  UNetGraphOptions options_;
  int reuse_;
  int64_t channels_, extra_channels_;
  Phase alone_, guided_;
  std::unique_ptr<Program> input_;
  Buffer call_, calls_, slots_, sample_, out_, extra_, keep_, image_, start_;
  // What input_ and the updates are planned for.
  int slot_count_ = 0;
  size_t total_ = 0;
  bool masked_ = false;
  // Where the loop is.
  size_t next_ = 0, guided_calls_ = 0;
};

// The table of the loop's ops for a program: one LoopCall a call, as words. Throws internal_error where the program has more
// updates a call than a LoopCall.
std::vector<int32_t> loop_calls(const LoopRequest& request);

}  // namespace darkroom

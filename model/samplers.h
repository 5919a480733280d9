// Samplers as programs: which noise levels the network is asked about, and what is done with its answers.
//
// With the noise levels known, every sampler here is linear in the latents, the network's outputs and fresh noise. So a
// sampler is a small function that runs once, before the first step, and writes down for each call of the network the time,
// the scale of its input, and a few updates  slot = Σ c · slot.  The loop then executes them with the op loop_update:
// it allocates nothing and knows no sampler.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/schedule.h"

namespace darkroom {

// What updates read and write. All have the latents' shape.
enum Slot : int {
  kSlotX,      // the latents
  kSlotModel,  // the network's (guided) output of this call
  kSlotNoise,  // fresh noise: drawn before the updates of a call that reads it, once a call
  kSlotHistory,
  kSlots = 8,
};

// Σ c_i · slot_i. Sampler functions compute with these as if they were tensors.
struct Linear {
  std::array<double, kSlots> c{};

  static Linear of(int slot) {
    Linear l;
    l.c[size_t(slot)] = 1;
    return l;
  }
  Linear& operator+=(const Linear& o) {
    for (size_t i = 0; i < c.size(); ++i) c[i] += o.c[i];
    return *this;
  }
  friend Linear operator+(Linear a, const Linear& b) { return a += b; }
  friend Linear operator-(Linear a, const Linear& b) { return a += -1.0 * b; }
  friend Linear operator*(double s, Linear a) {
    for (double& x : a.c) x *= s;
    return a;
  }
};

struct SlotUpdate {
  int slot;
  Linear value;
};

struct SamplerStep {
  double timestep;       // what the network is told; may be fractional
  double input_scale;    // the network sees input_scale · x
  double signal, noise;  // the level at this call: x = signal · x0 + noise · ε
  bool draws = false;    // one tensor of fresh noise, whether or not its coefficient is zero
  std::vector<SlotUpdate> updates;
};

struct SamplerProgram {
  // Where it begins: from noise alone, x = init_noise_sigma · noise; from an image's latents, x = image_signal · latents +
  // image_noise · noise.
  double init_noise_sigma = 1, image_signal = 1, image_noise = 0;
  std::vector<SamplerStep> steps;
  // The whole schedule, as if begin were 0; sigmas are empty for samplers that work on whole training steps.
  std::vector<double> timesteps, sigmas;
  int calls_per_step = 1;    // of the network: 2 for Heun's kind, whose last step takes one
  int slots = kSlotHistory;  // how many of them are used
};

struct SamplerOptions {
  std::string sampler = "euler";
  int steps = 20;
  int begin = 0;                         // img2img: the first steps that are left out
  std::optional<ScheduleKind> schedule;  // none: the checkpoint's
  std::optional<Spacing> spacing;        // none: the checkpoint's, else the sampler's own
  std::optional<double> eta;             // none: 0 for DDIM, 0.3 for TCD, 1 for ancestral ones
};

struct SamplerInfo {
  std::string_view name;     // "dpmpp_2m"
  std::string_view title;    // "DPM++ 2M"
  std::string_view aliases;  // further names, separated by |, compared without case, spaces, '-' and '_'
};
std::span<const SamplerInfo> all_samplers();

// The table's name for one of a sampler's names; a schedule that is part of it ("DPM++ 2M Karras") is set. Throws usage_error
// naming the samplers that exist.
std::string_view find_sampler(std::string_view name, std::optional<ScheduleKind>* schedule = nullptr);

// The sampler for a scheduler class of a checkpoint; "euler" for one we do not know.
std::string_view sampler_of_class(const SchedulerConfig& config);

// Throws usage_error where the options do not fit (steps, begin, a schedule that the sampler cannot follow).
SamplerProgram make_program(const SchedulerConfig& config, const SamplerOptions& options);

}  // namespace darkroom

// What sampler functions are written with.
#pragma once

#include <algorithm>
#include <cmath>

#include "model/samplers.h"

namespace darkroom {

struct SamplerBuilder {
  const SchedulerConfig& config;
  const SamplerOptions& options;
  NoiseSchedule schedule;
  SamplerProgram program;

  SamplerBuilder(const SchedulerConfig& c, const SamplerOptions& o) : config(c), options(o), schedule(c) {}

  double eta(double fallback) const { return options.eta.value_or(fallback); }
  Spacing spacing(Spacing own) const { return options.spacing ? *options.spacing : config.spacing.value_or(own); }

  // Opens the next call of the network; updates are appended to it. At ᾱ, for x = √ᾱ·x0 + √(1−ᾱ)·ε:
  void call_at_alpha(double timestep, double alpha_cumprod) {
    program.steps.push_back(
        {double(float(timestep)), 1.0, std::sqrt(alpha_cumprod), std::sqrt(1 - alpha_cumprod), false, {}});
  }
  // At σ, for x = x0 + σ·ε:
  void call_at_sigma(double timestep, double sigma) {
    program.steps.push_back({double(float(timestep)), 1 / std::sqrt(sigma * sigma + 1), 1.0, sigma, false, {}});
  }
  Linear noise() {
    program.steps.back().draws = true;
    return Linear::of(kSlotNoise);
  }
  void set(int slot, const Linear& value) {
    program.steps.back().updates.push_back({slot, value});
    if (slot >= program.slots) program.slots = slot + 1;
  }

  // Schedules. The first two fill timesteps (and sigmas, with the final 0 or σ_min) of the whole run.
  void whole_timesteps(Spacing own);
  void sigma_schedule(StepRounding rounding, Spacing spacing, double last = 0.0);

  // Where noise and image join. Variance preserving: x = √ᾱ·image + √(1−ᾱ)·noise, with ᾱ of the first step that is run.
  void start_at_alpha(double alpha_cumprod) {
    program.image_signal = std::sqrt(alpha_cumprod);
    program.image_noise = std::sqrt(1 - alpha_cumprod);
  }

  // Variance exploding: x = image + σ·noise, with σ of the first step that is run; noise alone is scaled to the schedule's
  // largest σ, or to that of noise plus a unit picture where the spacing is leading.
  void start_exploding(double sigma) {
    const double high = *std::max_element(program.sigmas.begin(), program.sigmas.end());
    program.init_noise_sigma = spacing(Spacing::linspace) == Spacing::leading ? std::sqrt(high * high + 1) : high;
    program.image_signal = 1;
    program.image_noise = sigma;
  }

  // The network's opinion on x (variance preserving: x = α·x0 + σ·ε), as x0 and as ε.
  Linear x0(double alpha, double sigma, const Linear& x = Linear::of(kSlotX),
            const Linear& out = Linear::of(kSlotModel)) const {
    switch (config.prediction) {
      case Prediction::epsilon:
        return (1 / alpha) * (x - sigma * out);
      case Prediction::v:
        return alpha * x - sigma * out;
      case Prediction::sample:
        break;
    }
    return out;
  }
  Linear epsilon(double alpha, double sigma, const Linear& x = Linear::of(kSlotX),
                 const Linear& out = Linear::of(kSlotModel)) const {
    switch (config.prediction) {
      case Prediction::epsilon:
        return out;
      case Prediction::v:
        return alpha * out + sigma * x;
      case Prediction::sample:
        break;
    }
    return (1 / sigma) * (x - alpha * out);
  }
  // The same for x = x0 + σ·ε (variance exploding), whose network input is x / √(σ²+1).
  Linear x0_exploding(double sigma) const {
    const double alpha = 1 / std::sqrt(sigma * sigma + 1);
    return x0(alpha, sigma * alpha, alpha * Linear::of(kSlotX));
  }
};

inline double input_scale_of(double sigma) { return 1 / std::sqrt(sigma * sigma + 1); }

// The functions of the table.
void sample_ddim(SamplerBuilder& b);
void sample_ddpm(SamplerBuilder& b);
void sample_pndm(SamplerBuilder& b);
void sample_lcm(SamplerBuilder& b);
void sample_tcd(SamplerBuilder& b);
void sample_euler(SamplerBuilder& b);
void sample_euler_ancestral(SamplerBuilder& b);
void sample_heun(SamplerBuilder& b);
void sample_lms(SamplerBuilder& b);
void sample_dpm2(SamplerBuilder& b);
void sample_dpm2_ancestral(SamplerBuilder& b);
void sample_dpmpp_2s_ancestral(SamplerBuilder& b);
void sample_dpmpp_2m(SamplerBuilder& b);
void sample_dpmpp_2m_sde(SamplerBuilder& b);
void sample_dpmpp_2s(SamplerBuilder& b);
void sample_deis(SamplerBuilder& b);
void sample_unipc(SamplerBuilder& b);

}  // namespace darkroom

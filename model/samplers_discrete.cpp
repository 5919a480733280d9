// Samplers that visit whole training steps: DDIM, DDPM, PNDM, LCM, TCD.
#include "model/sampler_builder.h"

namespace darkroom {

namespace {

double alpha_at(const SamplerBuilder& b, double t) {
  return t >= 0 ? b.schedule.alpha_cumprod(int64_t(t)) : b.schedule.final_alpha_cumprod();
}

}  // namespace

// Song et al., Denoising Diffusion Implicit Models (2021), eq. 12.
void sample_ddim(SamplerBuilder& b) {
  b.whole_timesteps(Spacing::leading);
  const int64_t whole = b.schedule.steps() / b.options.steps;  // as leading spacing has it
  const double eta = b.eta(0.0), stride = double(whole);
  b.start_at_alpha(alpha_at(b, b.program.timesteps[size_t(b.options.begin)]));
  for (size_t i = size_t(b.options.begin); i < b.program.timesteps.size(); ++i) {
    const double t = b.program.timesteps[i], a = alpha_at(b, t), a_prev = alpha_at(b, t - stride);
    const double deviation = eta * std::sqrt((1 - a_prev) / (1 - a) * (1 - a / a_prev));
    b.call_at_alpha(t, a);
    const Linear x0 = b.x0(std::sqrt(a), std::sqrt(1 - a)), eps = b.epsilon(std::sqrt(a), std::sqrt(1 - a));
    Linear x = std::sqrt(a_prev) * x0 + std::sqrt(std::max(0.0, 1 - a_prev - deviation * deviation)) * eps;
    if (eta > 0) x += deviation * b.noise();
    b.set(kSlotX, x);
  }
}

// Ho et al., Denoising Diffusion Probabilistic Models (2020), eq. 7, with the smaller of the two variances.
void sample_ddpm(SamplerBuilder& b) {
  b.whole_timesteps(Spacing::leading);
  const std::vector<double>& times = b.program.timesteps;
  b.start_at_alpha(alpha_at(b, times[size_t(b.options.begin)]));
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const double a = alpha_at(b, times[i]), a_prev = i + 1 < times.size() ? alpha_at(b, times[i + 1]) : 1.0;
    const double alpha = a / a_prev, beta = 1 - alpha;
    b.call_at_alpha(times[i], a);
    Linear x = (std::sqrt(a_prev) * beta / (1 - a)) * b.x0(std::sqrt(a), std::sqrt(1 - a)) +
               (std::sqrt(alpha) * (1 - a_prev) / (1 - a)) * Linear::of(kSlotX);
    if (times[i] > 0) x += std::sqrt(std::max((1 - a_prev) / (1 - a) * beta, 1e-20)) * b.noise();
    b.set(kSlotX, x);
  }
}

// Liu et al., Pseudo Numerical Methods for Diffusion Models (2022), with linear multistep from the first step on ("PLMS"):
// the second step is taken twice, so that there is one call more than steps.
void sample_pndm(SamplerBuilder& b) {
  enum { kFirstX = kSlotHistory, kOutputs };  // the latents before the first step; the last four outputs
  b.whole_timesteps(Spacing::leading);
  std::vector<double>& times = b.program.timesteps;
  if (times.size() > 1) times.insert(times.begin() + 1, times[1]);
  const int64_t whole = b.schedule.steps() / b.options.steps;
  const double stride = double(whole);
  b.start_at_alpha(alpha_at(b, times[size_t(b.options.begin)]));
  int outputs = 0;
  const auto output = [&](int back) { return Linear::of(kOutputs + (outputs - 1 - back) % 4); };  // 0: the newest
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const size_t counter = i - size_t(b.options.begin);
    double t = times[i], t_prev = t - stride;
    b.call_at_alpha(t, alpha_at(b, t));
    Linear out, x = Linear::of(kSlotX);
    if (counter == 1) {
      // The first step again, with the mean of both outputs.
      out = 0.5 * (Linear::of(kSlotModel) + output(0));
      x = Linear::of(kFirstX);
      t_prev = t;
      t += stride;
    } else {
      if (counter == 0) b.set(kFirstX, x);
      b.set(kOutputs + outputs % 4, Linear::of(kSlotModel));
      ++outputs;
      if (outputs == 1) out = output(0);
      if (outputs == 2) out = 0.5 * (3.0 * output(0) - output(1));
      if (outputs == 3) out = (1.0 / 12) * (23.0 * output(0) - 16.0 * output(1) + 5.0 * output(2));
      if (outputs >= 4) out = (1.0 / 24) * (55.0 * output(0) - 59.0 * output(1) + 37.0 * output(2) - 9.0 * output(3));
    }
    const double a = alpha_at(b, std::min(t, double(b.schedule.steps() - 1))), a_prev = alpha_at(b, t_prev);
    const Linear eps = b.epsilon(std::sqrt(a), std::sqrt(1 - a), x, out);
    const double divisor = a * std::sqrt(1 - a_prev) + std::sqrt(a * (1 - a) * a_prev);
    b.set(kSlotX, std::sqrt(a_prev / a) * x - ((a_prev - a) / divisor) * eps);
  }
}

namespace {

// The few steps of a consistency model: evenly among those that its training used.
void consistency_timesteps(SamplerBuilder& b) {
  const int64_t origin = std::max<int64_t>(b.config.original_inference_steps, b.options.steps);
  const int64_t k = b.schedule.steps() / origin;
  for (int i = 0; i < b.options.steps; ++i) {
    const int64_t index = int64_t(std::floor(double(i) * double(origin) / b.options.steps));
    b.program.timesteps.push_back(double((origin - index) * k - 1));
  }
}

}  // namespace

// Luo et al., Latent Consistency Models (2023), algorithm 3.
void sample_lcm(SamplerBuilder& b) {
  consistency_timesteps(b);
  const std::vector<double>& times = b.program.timesteps;
  b.start_at_alpha(alpha_at(b, times[size_t(b.options.begin)]));
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const double t = times[i], a = alpha_at(b, t), scaled = t * b.config.timestep_scaling, data = 0.5;
    const double skip = data * data / (scaled * scaled + data * data),
                 out = scaled / std::sqrt(scaled * scaled + data * data);
    b.call_at_alpha(t, a);
    Linear x = out * b.x0(std::sqrt(a), std::sqrt(1 - a)) + skip * Linear::of(kSlotX);
    if (i + 1 < times.size()) {
      const double a_prev = alpha_at(b, times[i + 1]);
      x = std::sqrt(a_prev) * x + std::sqrt(1 - a_prev) * b.noise();
    }
    b.set(kSlotX, x);
  }
}

// Zheng et al., Trajectory Consistency Distillation (2024), algorithm 3; eta is its gamma.
void sample_tcd(SamplerBuilder& b) {
  consistency_timesteps(b);
  const std::vector<double>& times = b.program.timesteps;
  const double eta = b.eta(0.3);
  b.start_at_alpha(alpha_at(b, times[size_t(b.options.begin)]));
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const double t = times[i], t_prev = i + 1 < times.size() ? times[i + 1] : 0.0;
    const double a = alpha_at(b, t), a_prev = alpha_at(b, t_prev), a_s = alpha_at(b, std::floor((1 - eta) * t_prev));
    b.call_at_alpha(t, a);
    Linear x = std::sqrt(a_s) * b.x0(std::sqrt(a), std::sqrt(1 - a)) +
               std::sqrt(1 - a_s) * b.epsilon(std::sqrt(a), std::sqrt(1 - a));
    if (eta > 0 && i + 1 < times.size()) x = std::sqrt(a_prev / a_s) * x + std::sqrt(1 - a_prev / a_s) * b.noise();
    b.set(kSlotX, x);
  }
}

}  // namespace darkroom

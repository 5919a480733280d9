// Samplers of x = x0 + σ·ε that solve dx/dσ = (x − x0) / σ: Euler, Heun, LMS, DPM2, and their ancestral kin.
// Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022).
#include "model/sampler_builder.h"

namespace darkroom {

namespace {

const Linear kX = Linear::of(kSlotX);

// An ancestral step from σ to σ_next: down to `down` without noise, then up again by noise of deviation `up`.
struct Ancestral {
  double down, up;
  Ancestral(double sigma, double next, double eta) {
    up = std::min(next, eta * std::sqrt(std::max(0.0, next * next * (sigma * sigma - next * next) / (sigma * sigma))));
    down = std::sqrt(next * next - up * up);
  }
};

Linear derivative(const SamplerBuilder& b, double sigma) { return (1 / sigma) * (kX - b.x0_exploding(sigma)); }

}  // namespace

void sample_euler(SamplerBuilder& b) {
  b.sigma_schedule(StepRounding::fractional, b.spacing(Spacing::linspace));
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  b.start_exploding(sigmas[size_t(b.options.begin)]);
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    b.call_at_sigma(times[i], sigmas[i]);
    b.set(kSlotX, kX + (sigmas[i + 1] - sigmas[i]) * derivative(b, sigmas[i]));
  }
}

void sample_euler_ancestral(SamplerBuilder& b) {
  b.sigma_schedule(StepRounding::fractional, b.spacing(Spacing::linspace));
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  b.start_exploding(sigmas[size_t(b.options.begin)]);
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const Ancestral step(sigmas[i], sigmas[i + 1], b.eta(1.0));
    b.call_at_sigma(times[i], sigmas[i]);
    b.set(kSlotX, kX + (step.down - sigmas[i]) * derivative(b, sigmas[i]) + step.up * b.noise());
  }
}

// The mean of the slopes at both ends; the last step, to σ = 0, is Euler's.
void sample_heun(SamplerBuilder& b) {
  enum { kStart = kSlotHistory, kSlope };
  b.sigma_schedule(StepRounding::fractional, b.spacing(Spacing::linspace));
  const std::vector<double> times = b.program.timesteps, sigmas = b.program.sigmas;
  b.program.calls_per_step = 2;
  b.start_exploding(sigmas[size_t(b.options.begin)]);
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const double dt = sigmas[i + 1] - sigmas[i];
    b.call_at_sigma(times[i], sigmas[i]);
    const Linear slope = derivative(b, sigmas[i]);
    if (sigmas[i + 1] > 0) {
      b.set(kStart, kX);
      b.set(kSlope, slope);
      b.set(kSlotX, kX + dt * Linear::of(kSlope));
      b.call_at_sigma(times[i + 1], sigmas[i + 1]);
      b.set(kSlotX, Linear::of(kStart) + (dt / 2) * (Linear::of(kSlope) + derivative(b, sigmas[i + 1])));
    } else {
      b.set(kSlotX, kX + dt * slope);
    }
  }
  // As the libraries list them: what each call is told, and its level.
  b.program.timesteps = {times[0]};
  b.program.sigmas = {sigmas[0]};
  for (size_t i = 1; i < times.size(); ++i)
    for (int copy = 0; copy < 2; ++copy) {
      b.program.timesteps.push_back(times[i]);
      b.program.sigmas.push_back(sigmas[i]);
    }
  b.program.sigmas.push_back(sigmas.back());
}

// Linear multistep of order 4: the integral of the polynomial through the last slopes.
void sample_lms(SamplerBuilder& b) {
  enum { kSlopes = kSlotHistory };
  constexpr int kOrder = 4;
  b.sigma_schedule(StepRounding::fractional, b.spacing(Spacing::linspace));
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  b.start_exploding(sigmas[size_t(b.options.begin)]);
  // ∫ from σ_i to σ_{i+1} of the Lagrange polynomial that is 1 at σ_{i−j} and 0 at the other `order` − 1 levels.
  const auto integral = [&](size_t i, int order, int j) {
    std::vector<double> polynomial = {1.0};  // coefficients, lowest first
    for (int k = 0; k < order; ++k) {
      if (k == j) continue;
      const double root = sigmas[i - size_t(k)], scale = 1 / (sigmas[i - size_t(j)] - root);
      std::vector<double> product(polynomial.size() + 1, 0.0);
      for (size_t d = 0; d < polynomial.size(); ++d) {
        product[d] -= root * scale * polynomial[d];
        product[d + 1] += scale * polynomial[d];
      }
      polynomial = product;
    }
    double sum = 0;
    for (size_t d = 0; d < polynomial.size(); ++d)
      sum +=
          polynomial[d] / double(d + 1) * (std::pow(sigmas[i + 1], double(d + 1)) - std::pow(sigmas[i], double(d + 1)));
    return sum;
  };
  int slopes = 0;
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    b.call_at_sigma(times[i], sigmas[i]);
    b.set(kSlopes + slopes % kOrder, derivative(b, sigmas[i]));
    ++slopes;
    Linear x = kX;
    // The order follows from the place in the whole schedule; where an image joins late, older slopes count as zero.
    const int order = int(std::min<size_t>(i + 1, kOrder));
    for (int j = 0; j < std::min(order, slopes); ++j)
      x += integral(i, order, j) * Linear::of(kSlopes + (slopes - 1 - j) % kOrder);
    b.set(kSlotX, x);
  }
}

namespace {

// DPM2: a first half step to the geometric middle, then the whole step with the slope found there.
void dpm2(SamplerBuilder& b, double eta, bool ancestral) {
  enum { kStart = kSlotHistory };
  b.sigma_schedule(StepRounding::fractional, b.spacing(Spacing::linspace));
  const std::vector<double> times = b.program.timesteps, sigmas = b.program.sigmas;
  b.program.calls_per_step = 2;
  b.start_exploding(sigmas[size_t(b.options.begin)]);
  b.program.timesteps.clear();
  b.program.sigmas.clear();
  for (size_t i = 0; i < times.size(); ++i) {
    const Ancestral step(sigmas[i], sigmas[i + 1], ancestral ? eta : 0.0);
    const bool last = sigmas[i + 1] == 0;
    const double middle = last ? 0.0 : std::sqrt(sigmas[i] * step.down), middle_time = b.schedule.time_of(middle);
    b.program.timesteps.push_back(times[i]);
    b.program.sigmas.push_back(sigmas[i]);
    if (!last) {
      b.program.timesteps.push_back(middle_time);
      b.program.sigmas.push_back(sigmas[i + 1]);
    }
    if (i < size_t(b.options.begin)) continue;
    b.call_at_sigma(times[i], sigmas[i]);
    const Linear slope = derivative(b, sigmas[i]);
    if (last) {
      b.set(kSlotX, kX + (0.0 - sigmas[i]) * slope);
      continue;
    }
    b.set(kStart, kX);
    b.set(kSlotX, kX + (middle - sigmas[i]) * slope);
    b.call_at_sigma(middle_time, middle);
    Linear x = Linear::of(kStart) + (step.down - sigmas[i]) * derivative(b, middle);
    if (ancestral) x += step.up * b.noise();
    b.set(kSlotX, x);
  }
}

}  // namespace

void sample_dpm2(SamplerBuilder& b) { dpm2(b, 0.0, false); }
void sample_dpm2_ancestral(SamplerBuilder& b) { dpm2(b, b.eta(1.0), true); }

// Lu et al., DPM-Solver++ (2022), algorithm 1 with r = 1/2, each step followed by fresh noise.
void sample_dpmpp_2s_ancestral(SamplerBuilder& b) {
  enum { kStart = kSlotHistory };
  b.sigma_schedule(StepRounding::fractional, b.spacing(Spacing::linspace));
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  b.program.calls_per_step = 2;
  b.start_exploding(sigmas[size_t(b.options.begin)]);
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const double sigma = sigmas[i];
    const Ancestral step(sigma, sigmas[i + 1], b.eta(1.0));
    b.call_at_sigma(times[i], sigma);
    if (step.down == 0) {
      b.set(kSlotX, kX - sigma * derivative(b, sigma));
      continue;
    }
    const double middle = std::sqrt(sigma * step.down);
    b.set(kStart, kX);
    b.set(kSlotX, (middle / sigma) * kX + (1 - middle / sigma) * b.x0_exploding(sigma));
    b.call_at_sigma(b.schedule.time_of(middle), middle);
    Linear x = (step.down / sigma) * Linear::of(kStart) + (1 - step.down / sigma) * b.x0_exploding(middle);
    if (step.up > 0) x += step.up * b.noise();
    b.set(kSlotX, x);
  }
}

}  // namespace darkroom

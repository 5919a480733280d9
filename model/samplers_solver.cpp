// Exponential integrators in the half log signal-to-noise ratio λ = log(α/σ): DPM-Solver++, DEIS, UniPC. Variance
// preserving: x = α·x0 + σ·ε. Levels are given as σ/α.
#include "model/sampler_builder.h"

namespace darkroom {

namespace {

const Linear kX = Linear::of(kSlotX);

struct Level {
  double ratio, alpha, sigma, lambda;
  explicit Level(double sigma_over_alpha)
      : ratio(sigma_over_alpha),
        alpha(input_scale_of(sigma_over_alpha)),
        sigma(sigma_over_alpha * alpha),
        lambda(-std::log(sigma_over_alpha)) {}
};

void start(SamplerBuilder& b) {
  const Level first(b.program.sigmas[size_t(b.options.begin)]);
  b.program.image_signal = first.alpha;
  b.program.image_noise = first.sigma;
}

// One exact step with x0 held constant.
Linear first_order(const Level& from, const Level& to, const Linear& x, const Linear& x0) {
  return (to.sigma / from.sigma) * x + to.alpha * (1 - to.ratio / from.ratio) * x0;
}

}  // namespace

// Lu et al., DPM-Solver++ (2022), algorithm 2.
void sample_dpmpp_2m(SamplerBuilder& b) {
  enum { kOutputs = kSlotHistory };  // x0 of this call and of the one before
  b.sigma_schedule(StepRounding::open, b.spacing(Spacing::linspace));
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  start(b);
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const size_t done = i - size_t(b.options.begin);
    const Level s(sigmas[i]), t(sigmas[i + 1]);
    const Linear now = Linear::of(kOutputs + int(done % 2)), before = Linear::of(kOutputs + int((done + 1) % 2));
    b.call_at_alpha(times[i], s.alpha * s.alpha);
    b.set(kOutputs + int(done % 2), b.x0(s.alpha, s.sigma));
    Linear x = first_order(s, t, kX, now);
    if (done > 0 && t.sigma > 0) {
      const double r = (s.lambda - Level(sigmas[i - 1]).lambda) / (t.lambda - s.lambda);
      x += (0.5 * t.alpha * (1 - t.ratio / s.ratio) / r) * (now - before);
    }
    b.set(kSlotX, x);
  }
}

// The same for the stochastic equation. Lu et al. (2022), appendix; midpoint.
void sample_dpmpp_2m_sde(SamplerBuilder& b) {
  enum { kOutputs = kSlotHistory };
  b.sigma_schedule(StepRounding::open, b.spacing(Spacing::linspace));
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  start(b);
  for (size_t i = size_t(b.options.begin); i < times.size(); ++i) {
    const size_t done = i - size_t(b.options.begin);
    const Level s(sigmas[i]), t(sigmas[i + 1]);
    const double decay = t.ratio / s.ratio, fresh = 1 - decay * decay;  // e^−h, 1 − e^−2h
    const Linear now = Linear::of(kOutputs + int(done % 2)), before = Linear::of(kOutputs + int((done + 1) % 2));
    b.call_at_alpha(times[i], s.alpha * s.alpha);
    b.set(kOutputs + int(done % 2), b.x0(s.alpha, s.sigma));
    Linear x = (t.sigma / s.sigma * decay) * kX + t.alpha * fresh * now + t.sigma * std::sqrt(fresh) * b.noise();
    if (done > 0 && t.sigma > 0) {
      const double r = (s.lambda - Level(sigmas[i - 1]).lambda) / (t.lambda - s.lambda);
      x += (0.5 * t.alpha * fresh / r) * (now - before);
    }
    b.set(kSlotX, x);
  }
}

// Lu et al., DPM-Solver++ (2022), algorithm 1: pairs of a first- and a second-order step from the same start.
void sample_dpmpp_2s(SamplerBuilder& b) {
  enum { kOutputs = kSlotHistory, kStart = kOutputs + 2 };
  b.sigma_schedule(StepRounding::open, b.options.spacing.value_or(Spacing::linspace));  // checkpoints do not choose it
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  start(b);
  const size_t n = times.size();
  const auto order_of = [&](size_t i) {  // 1 2 1 2 … and first order at the end, where σ becomes 0
    const bool tail = n % 2 == 0 ? i + 2 >= n : i + 1 >= n;
    return !tail && i % 2 == 1 ? 2 : 1;
  };
  for (size_t i = size_t(b.options.begin); i < n; ++i) {
    const size_t done = i - size_t(b.options.begin);
    const Level s(sigmas[i]), t(sigmas[i + 1]);
    const Linear now = Linear::of(kOutputs + int(done % 2)), before = Linear::of(kOutputs + int((done + 1) % 2));
    b.call_at_alpha(times[i], s.alpha * s.alpha);
    b.set(kOutputs + int(done % 2), b.x0(s.alpha, s.sigma));
    if (order_of(i) == 1 || done == 0) {
      b.set(kStart, kX);
      b.set(kSlotX, first_order(s, t, kX, now));
      continue;
    }
    const Level first(sigmas[i - 1]);
    const double h = t.lambda - first.lambda, r = (s.lambda - first.lambda) / h;
    b.set(kSlotX, first_order(first, t, Linear::of(kStart), before) +
                      (0.5 * t.alpha * (1 - t.ratio / first.ratio) / r) * (now - before));
  }
}

// Zhang, Chen, Fast Sampling of Diffusion Models with Exponential Integrator (2023): ρAB, order 2, in log ρ, ρ = σ/α.
void sample_deis(SamplerBuilder& b) {
  enum { kOutputs = kSlotHistory };  // ε of this call and of the one before
  b.sigma_schedule(StepRounding::open, b.spacing(Spacing::linspace), b.schedule.sigma_min());
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  start(b);
  const size_t n = times.size();
  // ∫ (log ρ − log c) / (log b − log c) dρ at t
  const auto primitive = [](double t, double p, double q) {
    return t * (-std::log(q) + std::log(t) - 1) / (std::log(p) - std::log(q));
  };
  for (size_t i = size_t(b.options.begin); i < n; ++i) {
    const size_t done = i - size_t(b.options.begin);
    const Level s(sigmas[i]), t(sigmas[i + 1]);
    const Linear now = Linear::of(kOutputs + int(done % 2)), before = Linear::of(kOutputs + int((done + 1) % 2));
    b.call_at_alpha(times[i], s.alpha * s.alpha);
    b.set(kOutputs + int(done % 2), b.epsilon(s.alpha, s.sigma));
    const bool lower = done == 0 || (i + 1 == n && n < 15);
    if (lower) {
      b.set(kSlotX, (t.alpha / s.alpha) * kX + t.alpha * (t.ratio - s.ratio) * now);
    } else {
      const double s0 = s.ratio, s1 = sigmas[i - 1];
      const double c0 = primitive(t.ratio, s0, s1) - primitive(s0, s0, s1),
                   c1 = primitive(t.ratio, s1, s0) - primitive(s0, s1, s0);
      b.set(kSlotX, t.alpha * ((1 / s.alpha) * kX + c0 * now + c1 * before));
    }
  }
}

// Zhao et al., UniPC (2023): UniP of order 2 with B(h) = e^h − 1 ("bh2"), each step first corrected by UniC with the output
// that its end point brings.
void sample_unipc(SamplerBuilder& b) {
  enum {
    kOutputs = kSlotHistory,
    kLast = kOutputs + 3
  };  // x0 of this call and two before; the latents before the last step
  b.sigma_schedule(StepRounding::open, b.spacing(Spacing::linspace));
  const std::vector<double>&times = b.program.timesteps, &sigmas = b.program.sigmas;
  start(b);
  const size_t n = times.size();
  int last_order = 0;
  for (size_t i = size_t(b.options.begin); i < n; ++i) {
    const size_t done = i - size_t(b.options.begin);
    const auto output = [&](size_t back) { return Linear::of(kOutputs + int((done + 3 - back) % 3)); };
    const Level s(sigmas[i]), t(sigmas[i + 1]);
    b.call_at_alpha(times[i], s.alpha * s.alpha);
    b.set(kOutputs + int(done % 3), b.x0(s.alpha, s.sigma));

    if (done > 0) {  // correct the step that led here
      const Level from(sigmas[i - 1]);
      const double h = s.lambda - from.lambda, hh = -h, phi1 = std::expm1(hh), B = phi1;
      Linear x = (s.sigma / from.sigma) * Linear::of(kLast) - s.alpha * phi1 * output(1);
      const Linear difference = output(0) - output(1);
      if (last_order == 1) {
        x += (-s.alpha * B * 0.5) * difference;
      } else {
        const double r = (Level(sigmas[i - 2]).lambda - from.lambda) / h;
        const double phi2 = phi1 / hh - 1, phi3 = phi2 / hh - 0.5, b1 = phi2 / B, b2 = 2 * phi3 / B;
        // [1 1; r 1] [c0 c1]ᵀ = [b1 b2]ᵀ
        const double c0 = (b1 - b2) / (1 - r), c1 = b1 - c0;
        x += (-s.alpha * B) * ((c0 / r) * (output(2) - output(1)) + c1 * difference);
      }
      b.set(kSlotX, x);
    }

    const int order = int(std::min({size_t(2), n - i, done + 1}));
    b.set(kLast, kX);
    Linear x = first_order(s, t, kX, output(0));
    if (order == 2) {
      const double h = t.lambda - s.lambda, r = (Level(sigmas[i - 1]).lambda - s.lambda) / h;
      x += (-t.alpha * std::expm1(-h) * 0.5 / r) * (output(1) - output(0));
    }
    b.set(kSlotX, x);
    last_order = order;
  }
}

}  // namespace darkroom

// Every sampler against the exact solution for a Gaussian: x0 ~ N(m, s²). There the network's perfect answer is an affine
// function of x, so that a whole run is an affine function of the first noise and of the draws on the way: its mean and
// variance are computed, not sampled. What no recorded steps cover is covered here.
#include <gtest/gtest.h>

#include <cmath>

#include "model/samplers.h"

namespace darkroom::testing {
namespace {

constexpr double kMean = 0.7, kDeviation = 0.6;

// a + b·first + Σ c_k·draw_k
using Affine = std::vector<double>;

Affine scaled_sum(const std::vector<Affine>& slots, const Linear& l, size_t size) {
  Affine sum(size, 0.0);
  for (size_t k = 0; k < kSlots; ++k)
    if (l.c[k] != 0)
      for (size_t i = 0; i < size; ++i) sum[i] += l.c[k] * slots[k][i];
  return sum;
}

// The perfect answer at x = signal·x0 + noise·ε, seen through the input scale: E[x0 | x] first, then what the network is asked.
Affine perfect_answer(const Affine& x, const SamplerStep& step, Prediction prediction) {
  const double a = step.signal, s = step.noise, variance = a * a * kDeviation * kDeviation + s * s;
  const double alpha = a * step.input_scale, sigma = s * step.input_scale;  // the same level, variance preserving
  Affine x0 = x, out = x;
  for (size_t i = 0; i < x.size(); ++i) {
    x0[i] = a * kDeviation * kDeviation / variance * x[i];
    if (i == 0) x0[0] += kMean - a * kDeviation * kDeviation / variance * a * kMean;
    const double input = step.input_scale * x[i], epsilon = (input - alpha * x0[i]) / sigma;
    out[i] = prediction == Prediction::epsilon ? epsilon
             : prediction == Prediction::v     ? alpha * epsilon - sigma * x0[i]
                                               : x0[i];
  }
  return out;
}

struct Moments {
  double mean, deviation;
};

SchedulerConfig fine_schedule(Prediction prediction) {
  SchedulerConfig config;
  config.beta_start = 1e-6;  // ends near σ = 0: what the last step leaves out does not matter
  config.prediction = prediction;
  return config;
}

Moments run(const SchedulerConfig& config, const SamplerOptions& options) {
  const SamplerProgram program = make_program(config, options);
  size_t draws = 0;
  for (const SamplerStep& s : program.steps) draws += s.draws;
  const size_t size = 2 + draws;
  std::vector<Affine> slots(kSlots, Affine(size, 0.0));
  // The true distribution at the first level, as a function of one standard normal number.
  const SamplerStep& first = program.steps[0];
  slots[kSlotX][0] = first.signal * kMean;
  slots[kSlotX][1] = std::sqrt(first.signal * first.signal * kDeviation * kDeviation + first.noise * first.noise);
  size_t drawn = 0;
  for (const SamplerStep& step : program.steps) {
    slots[kSlotModel] = perfect_answer(slots[kSlotX], step, config.prediction);
    if (step.draws) {
      slots[kSlotNoise].assign(size, 0.0);
      slots[kSlotNoise][2 + drawn++] = 1.0;
    }
    for (const SlotUpdate& update : step.updates) slots[size_t(update.slot)] = scaled_sum(slots, update.value, size);
  }
  double variance = 0;
  for (size_t i = 1; i < size; ++i) variance += slots[kSlotX][i] * slots[kSlotX][i];
  return {slots[kSlotX][0], std::sqrt(variance)};
}

double error_of(const SchedulerConfig& config, SamplerOptions options, int steps) {
  options.steps = steps;
  const Moments m = run(config, options);
  return std::abs(m.mean - kMean) + std::abs(m.deviation - kDeviation);
}

struct Case {
  const char* sampler;
  double eta;    // < 0: its own
  double order;  // of convergence
};
class Order : public ::testing::TestWithParam<Case> {};

TEST_P(Order, OfConvergence) {
  const Case& c = GetParam();
  for (Prediction prediction : {Prediction::epsilon, Prediction::v, Prediction::sample}) {
    SamplerOptions options;
    options.sampler = c.sampler;
    if (c.eta >= 0) options.eta = c.eta;
    const SchedulerConfig config = fine_schedule(prediction);
    const double coarse = error_of(config, options, 20), fine = error_of(config, options, 80);
    const double order = std::log(coarse / fine) / std::log(4.0);
    EXPECT_GT(order, c.order - 0.35) << c.sampler << ": " << coarse << " with 20 steps, " << fine << " with 80";
    EXPECT_LT(fine, 0.03) << c.sampler;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Order,
                         ::testing::Values(Case{"ddim", 0, 1}, Case{"ddim", 1, 1}, Case{"ddpm", -1, 1},
                                           Case{"euler", -1, 1}, Case{"euler_a", 0, 1}, Case{"euler_a", 1, 1},
                                           Case{"heun", -1, 2}, Case{"lms", -1, 2}, Case{"dpm2", -1, 2},
                                           Case{"dpm2_a", 0, 2}, Case{"dpm2_a", 1, 1}, Case{"dpmpp_2s_a", 0, 2},
                                           Case{"dpmpp_2s_a", 1, 1}, Case{"dpmpp_2m", -1, 1.8},
                                           Case{"dpmpp_2s", -1, 1.8}, Case{"dpmpp_2m_sde", -1, 1},
                                           Case{"deis", -1, 1.8}, Case{"unipc", -1, 2}, Case{"pndm", -1, 1}),
                         [](const auto& info) {
                           return std::string(info.param.sampler) +
                                  (info.param.eta >= 0 ? "_eta" + std::to_string(int(info.param.eta)) : "");
                         });

TEST(Schedule, EveryKindLeadsToTheSameEnd) {
  for (ScheduleKind kind : {ScheduleKind::discrete, ScheduleKind::karras, ScheduleKind::exponential,
                            ScheduleKind::sgm_uniform, ScheduleKind::simple})
    for (const char* sampler : {"euler", "heun", "dpmpp_2m", "unipc"})
      for (Spacing spacing : {Spacing::leading, Spacing::trailing, Spacing::linspace}) {
        SamplerOptions options;
        options.sampler = sampler;
        options.schedule = kind;
        options.spacing = spacing;
        EXPECT_LT(error_of(fine_schedule(Prediction::epsilon), options, 100), 0.03)
            << sampler << " " << schedule_name(kind) << " " << spacing_name(spacing);
      }
}

TEST(Schedule, ZeroTerminalSnrEndsInPureNoise) {
  SchedulerConfig config = fine_schedule(Prediction::v);
  config.rescale_betas_zero_snr = true;
  const NoiseSchedule schedule(config), plain(fine_schedule(Prediction::v));
  EXPECT_LT(schedule.alpha_cumprod(999), 1e-7);
  EXPECT_GT(plain.alpha_cumprod(999), 1e-3);
  EXPECT_NEAR(schedule.alpha_cumprod(0), plain.alpha_cumprod(0), 1e-6);
  SamplerOptions options;
  options.spacing = Spacing::trailing;
  for (const char* sampler : {"ddim", "euler", "dpmpp_2m"}) {
    options.sampler = sampler;
    EXPECT_LT(error_of(config, options, 100), 0.03) << sampler;
  }
}

TEST(Names, AliasesOfEverySampler) {
  for (const auto& [alias, name] : {std::pair<const char*, const char*>{"Euler a", "euler_a"},
                                    {"k_euler_ancestral", "euler_a"},
                                    {"DPM++ 2M", "dpmpp_2m"},
                                    {"dpm++2m", "dpmpp_2m"},
                                    {"DPM++ 2S a", "dpmpp_2s_a"},
                                    {"PLMS", "pndm"},
                                    {"uni_pc", "unipc"},
                                    {"DPM2 a", "dpm2_a"},
                                    {"DPM++ 2M SDE", "dpmpp_2m_sde"},
                                    {"ddim", "ddim"}})
    EXPECT_EQ(find_sampler(alias), name);
  std::optional<ScheduleKind> schedule;
  EXPECT_EQ(find_sampler("DPM++ 2M Karras", &schedule), "dpmpp_2m");
  EXPECT_EQ(schedule, ScheduleKind::karras);
}

}  // namespace
}  // namespace darkroom::testing

// Schedules, sampler steps and noise against what the reference libraries computed.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/rng.h"
#include "model/samplers.h"
#include "tests/support/golden.h"
#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

using nlohmann::json;

json tables() {
  std::ifstream in(golden_path("samplers/tables.json"));
  return json::parse(in)["tables"];
}

SamplerOptions options_of(const std::string& variant) {
  SamplerOptions o;
  o.sampler = variant;
  if (variant == "ddim_eta1") {
    o.sampler = "ddim";
    o.eta = 1.0;
  }
  if (variant == "euler_karras") o.sampler = "Euler Karras";
  if (variant == "dpmpp_2m_karras") o.sampler = "DPM++ 2M Karras";
  return o;
}

void expect_near(const std::vector<double>& mine, const json& golden, const std::string& what) {
  ASSERT_LE(mine.size(), golden.size()) << what;
  for (size_t i = 0; i < mine.size(); ++i) {
    const double g = golden[i], limit = 1e-6 * std::max(10.0, std::abs(g));  // times run to 999
    if (!(std::abs(mine[i] - g) <= limit)) {
      ADD_FAILURE() << what << "[" << i << "] is " << mine[i] << ", should be " << g;
      return;
    }
  }
}

TEST(Schedules, AlphasAndSigmas) {
  const Safetensors file(golden_path("samplers/betas.safetensors"));
  const NoiseSchedule schedule{SchedulerConfig{}};
  const std::vector<float> alphas = tensor(file, "alphas_cumprod"), sigmas = tensor(file, "sigmas");
  ASSERT_EQ(int64_t(alphas.size()), schedule.steps());
  for (size_t i = 0; i < alphas.size(); ++i) {
    ASSERT_NEAR(schedule.alpha_cumprod(int64_t(i)) / double(alphas[i]), 1.0, 1e-6) << i;
    ASSERT_NEAR(schedule.sigma(int64_t(i)) / double(sigmas[i]), 1.0, 2e-6) << i;
  }
}

TEST(Schedules, TimestepsAndSigmasOfEverySampler) {
  int compared = 0;
  const json all = tables();
  for (const auto& [name, entry] : all.items()) {
    if (!entry.contains("config")) continue;  // the library refuses this combination
    SCOPED_TRACE(name);
    const std::string variant = name.substr(5, name.find('.', 5) - 5);
    const SchedulerConfig config = parse_scheduler_config(entry["config"].dump(), name);
    for (const char* steps : {"20", "50"}) {
      if (!entry.contains(steps) || !entry[steps].contains("timesteps")) continue;
      SamplerOptions options = options_of(variant);
      options.steps = std::stoi(steps);
      const SamplerProgram program = make_program(config, options);
      const json& golden = entry[steps];
      ASSERT_EQ(program.timesteps.size(), golden["timesteps"].size());
      expect_near(program.timesteps, golden["timesteps"], "timesteps");
      if (golden.contains("sigmas") && !program.sigmas.empty()) expect_near(program.sigmas, golden["sigmas"], "sigmas");
      EXPECT_NEAR(program.init_noise_sigma / golden["init_noise_sigma"].get<double>(), 1.0, 1e-6);
      ++compared;
    }
  }
  EXPECT_GT(compared, 200);
}

// Runs a program on recorded outputs and noise. In f32, as the engine does.
TEST(SamplerSteps, EveryStepOfEverySampler) {
  const json all = tables();
  int compared = 0;
  for (const auto& file : std::filesystem::directory_iterator(golden_path("samplers"))) {
    const std::string stem = file.path().stem().string();
    if (file.path().extension() != ".safetensors" || stem == "betas") continue;
    SCOPED_TRACE(stem);
    const Safetensors golden(file.path().string());
    const std::string variant = stem.substr(5, stem.find('.', 5) - 5);
    const SchedulerConfig config = parse_scheduler_config(all[stem.substr(0, 5) + variant]["config"].dump(), stem);
    SamplerOptions options = options_of(variant);
    options.steps = std::stoi(golden.metadata().at("steps"));
    options.begin = std::stoi(golden.metadata().at("begin"));
    const SamplerProgram program = make_program(config, options);

    const std::vector<float> inputs = tensor(golden, "model_input"), outputs = tensor(golden, "model_output"),
                             expected = tensor(golden, "prev_sample"), times = tensor(golden, "timesteps");
    const std::vector<float> noise = golden.find("step_noise") ? tensor(golden, "step_noise") : std::vector<float>();
    const size_t n = tensor(golden, "x_init").size();
    ASSERT_EQ(program.steps.size(), times.size());
    std::vector<std::vector<float>> slots(kSlots, std::vector<float>(n, NAN));
    slots[kSlotX] = tensor(golden, "x_init");
    size_t draws = 0;
    for (size_t s = 0; s < program.steps.size(); ++s) {
      const SamplerStep& step = program.steps[s];
      ASSERT_NEAR(step.timestep, double(times[s]), 1e-6 * std::max(10.0, double(times[s]))) << "step " << s;
      std::vector<float> input;
      for (float x : slots[kSlotX]) input.push_back(float(step.input_scale) * x);
      const auto part = [&](const std::vector<float>& v) {
        return std::vector<float>(v.begin() + std::ptrdiff_t(s * n), v.begin() + std::ptrdiff_t((s + 1) * n));
      };
      EXPECT_LE(relative_l2(input, part(inputs)), 1e-5) << "input of step " << s;
      slots[kSlotModel] = part(outputs);
      if (step.draws) {
        ASSERT_LE((draws + 1) * n, noise.size());
        slots[kSlotNoise].assign(noise.begin() + std::ptrdiff_t(draws * n),
                                 noise.begin() + std::ptrdiff_t((draws + 1) * n));
        ++draws;
      }
      for (const SlotUpdate& update : step.updates) {
        std::vector<float> result(n, 0.0f);
        for (size_t k = 0; k < kSlots; ++k)
          if (update.value.c[k] != 0)
            for (size_t i = 0; i < n; ++i) result[i] = std::fma(float(update.value.c[k]), slots[k][i], result[i]);
        slots[size_t(update.slot)] = result;
      }
      const double error = relative_l2(slots[kSlotX], part(expected));
      if (!(error <= 1e-5)) {
        ADD_FAILURE() << "after step " << s << " of " << program.steps.size() << ": " << error;
        break;
      }
    }
    EXPECT_EQ(draws * n, noise.size());
    ++compared;
  }
  EXPECT_GE(compared, 100);
}

void compare_noise(RngKind kind, const char* name) {
  const Safetensors golden(golden_path(name));
  int compared = 0;
  for (const auto& [key, entry] : golden.entries()) {
    const size_t second = key.find('.', 5);
    const uint64_t seed = std::stoull(key.substr(5, second - 5));
    if (key.find(".n.") != std::string::npos) {
      const std::vector<float> expected = tensor(golden, key);
      std::vector<float> mine(expected.size());
      NoiseSource(kind, seed).normal(mine.data(), mine.size());
      for (size_t i = 0; i < mine.size(); ++i)
        ASSERT_NEAR(mine[i], expected[i], 1e-6 * std::max(1.0f, std::abs(expected[i]))) << key << " " << i;
      ++compared;
    } else if (key.ends_with("again.0")) {
      NoiseSource source(kind, seed);
      for (int k = 0; k < 3; ++k) {
        const std::vector<float> expected = tensor(golden, key.substr(0, key.size() - 1) + std::to_string(k));
        std::vector<float> mine(expected.size());
        source.normal(mine.data(), mine.size());
        for (size_t i = 0; i < mine.size(); ++i)
          ASSERT_NEAR(mine[i], expected[i], 1e-6 * std::max(1.0f, std::abs(expected[i]))) << key << " " << k;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 10);
}

TEST(Noise, TorchCpu) { compare_noise(RngKind::cpu, "rng/torch_cpu.safetensors"); }
TEST(Noise, TorchCuda) { compare_noise(RngKind::cuda, "rng/philox.safetensors"); }

}  // namespace
}  // namespace darkroom::testing

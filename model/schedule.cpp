#include "model/schedule.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/json_text.h"

namespace darkroom {

namespace {

constexpr std::pair<ScheduleKind, const char*> kSchedules[] = {{ScheduleKind::discrete, "discrete"},
                                                               {ScheduleKind::karras, "karras"},
                                                               {ScheduleKind::exponential, "exponential"},
                                                               {ScheduleKind::sgm_uniform, "sgm_uniform"},
                                                               {ScheduleKind::simple, "simple"}};
constexpr std::pair<Spacing, const char*> kSpacings[] = {
    {Spacing::leading, "leading"}, {Spacing::trailing, "trailing"}, {Spacing::linspace, "linspace"}};

template <typename T, size_t N>
const char* name_of(const std::pair<T, const char*> (&table)[N], T value) {
  for (const auto& [v, name] : table)
    if (v == value) return name;
  return "?";
}
template <typename T, size_t N>
T find_name(const std::pair<T, const char*> (&table)[N], std::string_view name, const char* what) {
  std::string known;
  for (const auto& [v, n] : table) {
    if (name == n) return v;
    known += (known.empty() ? "" : ", ") + std::string(n);
  }
  throw usage_error("{} {}: there are {}", what, name, known);
}

// linspace as the tensor library computes it in f32: from both ends towards the middle.
std::vector<float> linspace_f32(float from, float to, int64_t n) {
  std::vector<float> x(static_cast<size_t>(n));
  const float step = n > 1 ? (to - from) / float(n - 1) : 0.0f;
  for (int64_t i = 0; i < n; ++i) x[size_t(i)] = i < n / 2 ? from + step * float(i) : to - step * float(n - 1 - i);
  return x;
}

std::vector<float> make_betas(const SchedulerConfig& c) {
  if (!c.trained_betas.empty()) return c.trained_betas;
  const int64_t n = c.num_train_timesteps;
  if (c.beta_schedule == "linear") return linspace_f32(float(c.beta_start), float(c.beta_end), n);
  if (c.beta_schedule == "scaled_linear") {
    std::vector<float> betas = linspace_f32(float(std::sqrt(c.beta_start)), float(std::sqrt(c.beta_end)), n);
    for (float& b : betas) b *= b;
    return betas;
  }
  const auto bar = [&](double t) {
    return std::pow(std::cos((t + 0.008) / 1.008 * M_PI / 2), 2);
  };  // squaredcos_cap_v2
  std::vector<float> betas;
  for (int64_t i = 0; i < n; ++i)
    betas.push_back(float(std::min(1 - bar(double(i + 1) / double(n)) / bar(double(i) / double(n)), 0.999)));
  return betas;
}

// Shifts and scales √ᾱ so that the last step is pure noise and the first stays as it was.
void rescale_zero_terminal_snr(std::vector<float>& betas) {
  std::vector<double> root;
  double product = 1;
  for (float b : betas) root.push_back(std::sqrt(product *= 1.0 - double(b)));
  const double first = root.front(), last = root.back();
  double before = 1;
  for (size_t i = 0; i < betas.size(); ++i) {
    const double shifted = (root[i] - last) * first / (first - last), bar = shifted * shifted;
    betas[i] = float(1 - bar / before);
    before = bar;
  }
}

}  // namespace

const char* schedule_name(ScheduleKind kind) { return name_of(kSchedules, kind); }
ScheduleKind parse_schedule(std::string_view name) { return find_name(kSchedules, name, "--schedule"); }
const char* spacing_name(Spacing spacing) { return name_of(kSpacings, spacing); }
Spacing parse_spacing(std::string_view name) { return find_name(kSpacings, name, "spacing"); }

SchedulerConfig parse_scheduler_config(std::string_view text, std::string_view where) {
  using nlohmann::json;
  json j = parse_json(text, where);
  if (!j.is_object()) throw file_error("{}: no JSON object", where);
  const auto bad = [&](const char* key, const char* wants) {
    return file_error("{}: {} is {}; {}", where, key, j[key].dump(), wants);
  };
  const auto present = [&](const char* key) { return j.contains(key) && !j[key].is_null(); };
  const auto number = [&](const char* key, double fallback) {
    if (!present(key)) return fallback;
    if (!j[key].is_number()) throw bad(key, "wants a number");
    return j[key].get<double>();
  };
  const auto integer = [&](const char* key, int64_t fallback, int64_t low, int64_t high) {
    if (!present(key)) return fallback;
    if (!j[key].is_number_integer() || j[key].get<int64_t>() < low || j[key].get<int64_t>() > high)
      throw bad(key, "out of range");
    return j[key].get<int64_t>();
  };
  const auto boolean = [&](const char* key, bool fallback) {
    if (!present(key)) return fallback;
    if (!j[key].is_boolean()) throw bad(key, "wants true or false");
    return j[key].get<bool>();
  };
  const auto string = [&](const char* key, const char* fallback) -> std::string {
    if (!present(key)) return fallback;
    if (!j[key].is_string()) throw bad(key, "wants a string");
    return j[key].get<std::string>();
  };
  const auto only = [&](const char* key, const json& value) {
    if (present(key) && j[key] != value) throw bad(key, ("only " + value.dump() + " is implemented").c_str());
  };

  SchedulerConfig c;
  c.class_name = string("_class_name", "");
  c.num_train_timesteps = integer("num_train_timesteps", 1000, 2, 100000);
  c.beta_start = number("beta_start", 0.0001);
  c.beta_end = number("beta_end", 0.02);
  c.beta_schedule = string("beta_schedule", "linear");
  if (c.beta_schedule != "linear" && c.beta_schedule != "scaled_linear" && c.beta_schedule != "squaredcos_cap_v2")
    throw bad("beta_schedule", "linear, scaled_linear and squaredcos_cap_v2 are implemented");
  if (!(c.beta_start > 0 && c.beta_end < 1 && c.beta_start <= c.beta_end))
    throw bad("beta_start", "betas must rise within 0 and 1");
  if (present("trained_betas")) {
    if (!j["trained_betas"].is_array() || j["trained_betas"].size() < 2)
      throw bad("trained_betas", "wants a list of numbers");
    for (const json& b : j["trained_betas"]) {
      if (!b.is_number() || !(b.get<double>() > 0 && b.get<double>() < 1))
        throw bad("trained_betas", "each must lie between 0 and 1");
      c.trained_betas.push_back(b.get<float>());
    }
    c.num_train_timesteps = int64_t(c.trained_betas.size());
  }
  const std::string prediction = string("prediction_type", "epsilon");
  if (prediction == "epsilon")
    c.prediction = Prediction::epsilon;
  else if (prediction == "v_prediction")
    c.prediction = Prediction::v;
  else if (prediction == "sample")
    c.prediction = Prediction::sample;
  else
    throw bad("prediction_type", "epsilon, v_prediction and sample are implemented");
  if (present("timestep_spacing")) {
    const std::string spacing = string("timestep_spacing", "");
    if (spacing != "leading" && spacing != "trailing" && spacing != "linspace")
      throw bad("timestep_spacing", "leading, trailing and linspace are implemented");
    c.spacing = parse_spacing(spacing);
  }
  c.steps_offset = integer("steps_offset", 0, 0, 1000);
  c.set_alpha_to_one = boolean("set_alpha_to_one", true);
  c.rescale_betas_zero_snr = boolean("rescale_betas_zero_snr", false);
  c.use_karras_sigmas = boolean("use_karras_sigmas", false);
  c.use_exponential_sigmas = boolean("use_exponential_sigmas", false);
  c.algorithm_type = string("algorithm_type", "");
  c.original_inference_steps = integer("original_inference_steps", 50, 1, 1000);
  c.timestep_scaling = number("timestep_scaling", 10.0);
  only("clip_sample", false);
  only("thresholding", false);
  only("use_beta_sigmas", false);
  only("use_flow_sigmas", false);
  only("use_lu_lambdas", false);
  only("use_dynamic_shifting", false);
  only("final_sigmas_type", "zero");
  only("interpolation_type", "linear");
  only("timestep_type", "discrete");
  return c;
}

NoiseSchedule::NoiseSchedule(const SchedulerConfig& config) {
  std::vector<float> betas = make_betas(config);
  if (config.rescale_betas_zero_snr) rescale_zero_terminal_snr(betas);
  double product = 1;
  for (float b : betas) {
    product *= double(1.0f - b);
    alphas_cumprod_.push_back(double(float(product)));
  }
  // Pure noise has no finite sigma: as near to it as f32 can be told from it.
  if (config.rescale_betas_zero_snr) alphas_cumprod_.back() = 0x1p-24;
  for (double a : alphas_cumprod_) {
    sigmas_.push_back(std::sqrt((1 - a) / a));
    log_sigmas_.push_back(std::log(sigmas_.back()));
  }
  final_ = config.set_alpha_to_one ? 1.0 : alphas_cumprod_.front();
}

double NoiseSchedule::sigma_at(double t) const {
  const double last = double(sigmas_.size() - 1);
  t = std::clamp(t, 0.0, last);
  const size_t low = size_t(std::min(std::floor(t), last - 1));
  const double w = t - double(low);
  return sigmas_[low] + w * (sigmas_[low + 1] - sigmas_[low]);
}

double NoiseSchedule::time_of(double sigma) const {
  const double x = std::log(std::max(sigma, 1e-10));
  const auto above = std::upper_bound(log_sigmas_.begin(), log_sigmas_.end(), x);
  const size_t low =
      size_t(std::clamp<std::ptrdiff_t>(above - log_sigmas_.begin() - 1, 0, std::ptrdiff_t(log_sigmas_.size()) - 2));
  const double w = std::clamp((x - log_sigmas_[low]) / (log_sigmas_[low + 1] - log_sigmas_[low]), 0.0, 1.0);
  return double(low) + w;
}

std::vector<double> spaced_timesteps(int64_t train_steps, int n, Spacing spacing, int64_t offset,
                                     StepRounding rounding) {
  // Halves are rounded to even, as the libraries do.
  std::vector<double> t;
  const int points = rounding == StepRounding::open ? n + 1 : n;
  if (spacing == Spacing::trailing) {
    for (int i = 0; i < n; ++i)
      t.push_back(std::nearbyint(double(train_steps) - double(i) * double(train_steps) / n) - 1);
    return t;
  }
  for (int i = points - 1; i >= points - n; --i) {
    if (spacing == Spacing::leading) {
      const int64_t whole = i * (train_steps / points) + offset;
      t.push_back(double(whole));
    } else {
      const double exact = points > 1 ? double(i) * double(train_steps - 1) / (points - 1) : 0.0;
      t.push_back(rounding == StepRounding::fractional ? double(float(exact)) : std::nearbyint(exact));
    }
  }
  return t;
}

std::vector<double> karras_sigmas(double high, double low, int n, double rho) {
  std::vector<double> sigmas;
  const double from = std::pow(high, 1 / rho), to = std::pow(low, 1 / rho);
  for (int i = 0; i < n; ++i) sigmas.push_back(std::pow(from + (n > 1 ? double(i) / (n - 1) : 0.0) * (to - from), rho));
  return sigmas;
}

std::vector<double> exponential_sigmas(double high, double low, int n) {
  std::vector<double> sigmas;
  for (int i = 0; i < n; ++i) {
    const double at = n > 1 ? double(i) / (n - 1) : 0.0;
    sigmas.push_back(std::exp(std::log(high) + at * (std::log(low) - std::log(high))));
  }
  return sigmas;
}

}  // namespace darkroom

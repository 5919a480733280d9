// Noise schedules: from a checkpoint's scheduler settings to the noise level at each training step, and which of them a
// sampler visits.   Sources: Ho et al., DDPM (2020); Nichol, Dhariwal (2021), cosine; Karras et al., EDM (2022); Lin et al.,
// Common Diffusion Noise Schedules and Sample Steps are Flawed (2024), zero terminal SNR and the names of the spacings.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace darkroom {

enum class Prediction : uint8_t { epsilon, v, sample };
enum class Spacing : uint8_t { leading, trailing, linspace };
// How the visited noise levels are laid out: `discrete` by the spacing of training steps; the others by a formula on sigma.
enum class ScheduleKind : uint8_t { discrete, karras, exponential, sgm_uniform, simple };

const char* schedule_name(ScheduleKind kind);
// Throws usage_error naming the schedules that exist.
ScheduleKind parse_schedule(std::string_view name);
const char* spacing_name(Spacing spacing);
Spacing parse_spacing(std::string_view name);

// scheduler_config.json.
struct SchedulerConfig {
  std::string class_name;  // "PNDMScheduler": what the checkpoint's authors sample with
  int64_t num_train_timesteps = 1000;
  double beta_start = 0.00085, beta_end = 0.012;
  std::string beta_schedule = "scaled_linear";
  std::vector<float> trained_betas;
  Prediction prediction = Prediction::epsilon;
  std::optional<Spacing> spacing;  // none: each sampler's own
  int64_t steps_offset = 0;
  bool set_alpha_to_one = true;
  bool rescale_betas_zero_snr = false;
  bool use_karras_sigmas = false;
  bool use_exponential_sigmas = false;
  std::string algorithm_type;             // DPMSolverMultistep: "dpmsolver++" or "sde-dpmsolver++"
  int64_t original_inference_steps = 50;  // LCM, TCD
  double timestep_scaling = 10.0;
};

// Throws file_error naming the key on a value that is not implemented (clip_sample, thresholding, flow sigmas ...).
SchedulerConfig parse_scheduler_config(std::string_view json, std::string_view where);

class NoiseSchedule {
 public:
  explicit NoiseSchedule(const SchedulerConfig& config);

  int64_t steps() const { return int64_t(alphas_cumprod_.size()); }
  // ᾱ_t; rounded to f32 where the libraries round.
  double alpha_cumprod(int64_t t) const { return alphas_cumprod_[size_t(t)]; }
  // ᾱ before the first step: 1, or ᾱ_0 where set_alpha_to_one is false.
  double final_alpha_cumprod() const { return final_; }
  // σ_t = √((1 − ᾱ_t) / ᾱ_t)
  double sigma(int64_t t) const { return sigmas_[size_t(t)]; }
  double sigma_min() const { return sigmas_.front(); }
  double sigma_max() const { return sigmas_.back(); }
  // σ at a fractional t, linear in between.
  double sigma_at(double t) const;
  // The (fractional) t whose σ this is, linear in log σ.
  double time_of(double sigma) const;

 private:
  std::vector<double> alphas_cumprod_, sigmas_, log_sigmas_;
  double final_ = 1.0;
};

// n training steps from high to low noise, as each library family rounds them:
//   whole      DDIM, DDPM, PNDM: whole steps; linspace ends at 0
//   fractional Euler, Heun, LMS, DPM2: fractional in linspace
//   open       DPM-Solver, UniPC, DEIS: n of n + 1 points, the last one left out
enum class StepRounding : uint8_t { whole, fractional, open };
std::vector<double> spaced_timesteps(int64_t train_steps, int n, Spacing spacing, int64_t offset,
                                     StepRounding rounding);

// n values of σ between two, from high to low.
std::vector<double> karras_sigmas(double high, double low, int n, double rho = 7.0);
std::vector<double> exponential_sigmas(double high, double low, int n);

}  // namespace darkroom

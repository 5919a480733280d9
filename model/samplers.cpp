#include "model/samplers.h"

#include <algorithm>
#include <cctype>

#include "kernels/core/error.h"
#include "model/sampler_builder.h"

namespace darkroom {

namespace {

enum class Levels { whole_steps, sigmas };

struct Entry {
  SamplerInfo info;
  std::string_view class_name;  // of the diffusers scheduler that it is
  Levels levels;                // whole training steps alone, or any schedule of sigmas
  void (*sample)(SamplerBuilder&);
};

constexpr Entry kTable[] = {
    {{"ddim", "DDIM", ""}, "DDIMScheduler", Levels::whole_steps, sample_ddim},
    {{"ddpm", "DDPM", ""}, "DDPMScheduler", Levels::whole_steps, sample_ddpm},
    {{"pndm", "PNDM", "plms"}, "PNDMScheduler", Levels::whole_steps, sample_pndm},
    {{"euler", "Euler", "k_euler"}, "EulerDiscreteScheduler", Levels::sigmas, sample_euler},
    {{"euler_a", "Euler a", "euler ancestral|k_euler_a|k_euler_ancestral"},
     "EulerAncestralDiscreteScheduler",
     Levels::sigmas,
     sample_euler_ancestral},
    {{"heun", "Heun", "k_heun"}, "HeunDiscreteScheduler", Levels::sigmas, sample_heun},
    {{"lms", "LMS", "k_lms"}, "LMSDiscreteScheduler", Levels::sigmas, sample_lms},
    {{"dpm2", "DPM2", "k_dpm_2|dpm_2|kdpm2"}, "KDPM2DiscreteScheduler", Levels::sigmas, sample_dpm2},
    {{"dpm2_a", "DPM2 a", "dpm2 ancestral|k_dpm_2_a|k_dpm_2_ancestral|dpm_2_ancestral"},
     "KDPM2AncestralDiscreteScheduler",
     Levels::sigmas,
     sample_dpm2_ancestral},
    {{"deis", "DEIS", "deis_multistep"}, "DEISMultistepScheduler", Levels::sigmas, sample_deis},
    {{"dpmpp_2s", "DPM++ 2S", "dpmsolver_singlestep"}, "DPMSolverSinglestepScheduler", Levels::sigmas, sample_dpmpp_2s},
    {{"dpmpp_2s_a", "DPM++ 2S a", "dpm++ 2s ancestral|k_dpmpp_2s_a|k_dpmpp_2s_ancestral|dpmpp_2s_ancestral"},
     "",
     Levels::sigmas,
     sample_dpmpp_2s_ancestral},
    {{"dpmpp_2m", "DPM++ 2M", "dpmsolver++|k_dpmpp_2m|dpmsolver_multistep"},
     "DPMSolverMultistepScheduler",
     Levels::sigmas,
     sample_dpmpp_2m},
    {{"dpmpp_2m_sde", "DPM++ 2M SDE", "sde-dpmsolver++|k_dpmpp_2m_sde"}, "", Levels::sigmas, sample_dpmpp_2m_sde},
    {{"unipc", "UniPC", "uni_pc"}, "UniPCMultistepScheduler", Levels::sigmas, sample_unipc},
    {{"lcm", "LCM", ""}, "LCMScheduler", Levels::whole_steps, sample_lcm},
    {{"tcd", "TCD", ""}, "TCDScheduler", Levels::whole_steps, sample_tcd},
};

// Lower case, without what people write in between; "++" is "pp".
std::string plain(std::string_view name) {
  std::string s;
  for (char c : name) {
    if (c == ' ' || c == '_' || c == '-') continue;
    s += c == '+' ? 'p' : char(std::tolower(static_cast<unsigned char>(c)));
  }
  return s;
}

bool is_named(const Entry& e, const std::string& wanted) {
  if (plain(e.info.name) == wanted || plain(e.info.title) == wanted) return true;
  for (std::string_view rest = e.info.aliases; !rest.empty();) {
    const size_t bar = std::min(rest.find('|'), rest.size());
    if (plain(rest.substr(0, bar)) == wanted) return true;
    rest.remove_prefix(std::min(bar + 1, rest.size()));
  }
  return false;
}

const Entry& find_entry(std::string_view name, std::optional<ScheduleKind>* schedule) {
  std::string wanted = plain(name);
  for (const Entry& e : kTable)
    if (is_named(e, wanted)) return e;
  // "... Karras", "... exponential": the schedule is part of the name.
  for (ScheduleKind kind : {ScheduleKind::karras, ScheduleKind::exponential}) {
    const std::string suffix = schedule_name(kind);
    if (!wanted.ends_with(suffix)) continue;
    wanted.resize(wanted.size() - suffix.size());
    for (const Entry& e : kTable)
      if (is_named(e, wanted)) {
        if (schedule) *schedule = kind;
        return e;
      }
  }
  std::string known;
  for (const Entry& e : kTable) known += (known.empty() ? "" : ", ") + std::string(e.info.name);
  throw usage_error("--sampler {}: there are {}", name, known);
}

}  // namespace

void SamplerBuilder::whole_timesteps(Spacing own) {
  program.timesteps =
      spaced_timesteps(schedule.steps(), options.steps, spacing(own), config.steps_offset, StepRounding::whole);
  // An offset must not lead beyond the last training step.
  for (double& t : program.timesteps) t = std::clamp(t, 0.0, double(schedule.steps() - 1));
}

void SamplerBuilder::sigma_schedule(StepRounding rounding, Spacing spacing, double last) {
  const ScheduleKind kind = options.schedule.value_or(ScheduleKind::discrete);
  const int n = options.steps;
  std::vector<double>&times = program.timesteps, &sigmas = program.sigmas;
  const double train = double(schedule.steps());
  if (kind == ScheduleKind::sgm_uniform) {
    for (int i = 0; i < n; ++i) times.push_back((train - 1) * (1 - double(i) / n));
  } else if (kind == ScheduleKind::simple) {
    for (int i = 0; i < n; ++i) times.push_back(train - 1 - std::floor(i * train / n));
  } else {
    times = spaced_timesteps(schedule.steps(), n, spacing, config.steps_offset, rounding);
    for (double& t : times) t = std::clamp(t, 0.0, train - 1);
  }
  for (double t : times) sigmas.push_back(schedule.sigma_at(t));
  if (kind == ScheduleKind::karras || kind == ScheduleKind::exponential) {
    // Between the visited levels, or over the whole training range: as each family has it.
    const bool open = rounding == StepRounding::open;
    const double high = open ? schedule.sigma_max() : sigmas.front(), low = open ? schedule.sigma_min() : sigmas.back();
    sigmas = kind == ScheduleKind::karras ? karras_sigmas(high, low, n) : exponential_sigmas(high, low, n);
    for (int i = 0; i < n; ++i) {
      const double t = schedule.time_of(sigmas[size_t(i)]);
      times[size_t(i)] = open ? std::nearbyint(t) : t;
    }
  }
  sigmas.push_back(last);
}

std::span<const SamplerInfo> all_samplers() {
  static const std::vector<SamplerInfo> infos = [] {
    std::vector<SamplerInfo> all;
    for (const Entry& e : kTable) all.push_back(e.info);
    return all;
  }();
  return infos;
}

std::string_view find_sampler(std::string_view name, std::optional<ScheduleKind>* schedule) {
  return find_entry(name, schedule).info.name;
}

std::string_view sampler_of_class(const SchedulerConfig& config) {
  if (config.class_name == "DPMSolverMultistepScheduler" && config.algorithm_type == "sde-dpmsolver++")
    return "dpmpp_2m_sde";
  for (const Entry& e : kTable)
    if (e.class_name == config.class_name && !e.class_name.empty()) return e.info.name;
  return "euler";
}

SamplerProgram make_program(const SchedulerConfig& config, const SamplerOptions& given) {
  SamplerOptions options = given;
  const Entry& entry = find_entry(options.sampler, &options.schedule);
  if (options.steps < 1 || options.steps > config.num_train_timesteps)
    throw usage_error("--steps {}: wants 1 to {}", options.steps, config.num_train_timesteps);
  if (options.begin < 0 || options.begin >= options.steps)
    throw usage_error("{} of {} steps left out: none remains", options.begin, options.steps);
  if (!options.schedule && entry.levels == Levels::sigmas) {
    if (config.use_karras_sigmas) options.schedule = ScheduleKind::karras;
    if (config.use_exponential_sigmas) options.schedule = ScheduleKind::exponential;
  }
  if (entry.levels == Levels::whole_steps &&
      options.schedule.value_or(ScheduleKind::discrete) != ScheduleKind::discrete)
    throw usage_error("--schedule {}: {} visits whole training steps and takes discrete alone",
                      schedule_name(*options.schedule), entry.info.name);
  SamplerBuilder builder(config, options);
  entry.sample(builder);
  return std::move(builder.program);
}

}  // namespace darkroom

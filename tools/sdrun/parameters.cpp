#include "tools/sdrun/parameters.h"

#include <fmt/core.h>

#include <algorithm>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

constexpr std::string_view kNegative = "\nNegative prompt: ", kSteps = "\nSteps: ";

// The web UIs' names of schedules.
constexpr std::pair<ScheduleKind, const char*> kScheduleTitles[] = {{ScheduleKind::discrete, "Automatic"},
                                                                    {ScheduleKind::karras, "Karras"},
                                                                    {ScheduleKind::exponential, "Exponential"},
                                                                    {ScheduleKind::sgm_uniform, "SGM Uniform"},
                                                                    {ScheduleKind::simple, "Simple"}};

// A value with a comma, a colon or a line break stands in quotes.
std::string quoted(const std::string& value) {
  if (value.find_first_of(",:\n\"") == std::string::npos) return value;
  std::string s = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') s += '\\';
    s += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return s + "\"";
}

std::string trimmed(std::string s) {
  const auto space = [](char c) { return c == ' ' || c == '\n' || c == '\r'; };
  while (!s.empty() && space(s.back())) s.pop_back();
  s.erase(s.begin(), std::ranges::find_if_not(s, space));
  return s;
}

}  // namespace

std::string format_parameters(const ResolvedRequest& resolved, const Ingredients& ingredients,
                              const PipelineOptions& options) {
  const Request& q = resolved.request;
  std::string s = q.prompt;
  if (q.negative_prompt) s += std::string(kNegative) + *q.negative_prompt;
  std::string title(resolved.sampler);
  for (const SamplerInfo& info : all_samplers())
    if (info.name == resolved.sampler) title = info.title;
  s += fmt::format("{}{}, Sampler: {}", kSteps, q.steps, title);
  for (const auto& [kind, name] : kScheduleTitles)
    if (q.schedule == kind) s += fmt::format(", Schedule type: {}", name);
  s += fmt::format(", CFG scale: {:g}, Seed: {}, Size: {}x{}, Model: {}", *q.cfg_scale, q.seed, q.width, q.height,
                   quoted(ingredients.model));
  if (!ingredients.loras.empty()) s += fmt::format(", LoRA: {}", quoted(ingredients.loras));
  if (!ingredients.embeddings.empty()) s += fmt::format(", Embeddings: {}", quoted(ingredients.embeddings));
  if (q.eta) s += fmt::format(", Eta: {:g}", *q.eta);
  if (q.image) s += fmt::format(", Denoising strength: {:g}", q.strength);
  if (q.clip_skip > 0) s += fmt::format(", Clip skip: {}", q.clip_skip);
  if (q.guided_part != 1.0f) s += fmt::format(", Guided part: {:g}", q.guided_part);
  if (q.reuse_deep != 1) s += fmt::format(", Reuse deep: {}", q.reuse_deep);
  s += fmt::format(", RNG: {}, Precision: {}", q.rng == RngKind::cpu ? "CPU" : "GPU", dtype_name(options.dtype));
  if (options.int8) s += ", Quantized: int8";
  s += fmt::format(", Version: darkroom {}", DARKROOM_VERSION);
  return s;
}

std::map<std::string, std::string> parse_parameters(const std::string& given, const std::string& where) {
  const std::string text = "\n" + given;
  const size_t steps = text.rfind(kSteps);
  if (steps == std::string::npos) throw file_error("{}: its parameters name no steps", where);
  std::map<std::string, std::string> values;
  std::string prompts = text.substr(0, steps);
  if (const size_t negative = prompts.find(kNegative); negative != std::string::npos) {
    values["negative"] = trimmed(prompts.substr(negative + kNegative.size()));
    prompts.resize(negative);
  }
  values["prompt"] = trimmed(prompts);
  const std::string line = text.substr(steps + 1);
  for (size_t at = 0; at < line.size();) {
    const size_t colon = line.find(':', at);
    if (colon == std::string::npos) break;
    const std::string key = trimmed(line.substr(at, colon - at));
    size_t i = colon + 1;
    while (i < line.size() && line[i] == ' ') ++i;
    std::string value;
    if (i < line.size() && line[i] == '"') {
      for (++i; i < line.size() && line[i] != '"'; ++i) {
        if (line[i] == '\\' && i + 1 < line.size()) {
          ++i;
          value += line[i] == 'n' ? '\n' : line[i];
        } else {
          value += line[i];
        }
      }
    }
    const size_t end = std::min(line.find(',', i), line.size());
    if (value.empty()) value = trimmed(line.substr(i, end - i));
    values[key] = value;
    at = end + 1;
  }
  return values;
}

}  // namespace darkroom

#include "tools/common/lora_options.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

std::string first_names(const std::vector<std::string>& names) {
  std::string s;
  for (size_t i = 0; i < names.size() && i < 3; ++i) s += (i ? ", " : "") + names[i];
  return s + (names.size() > 3 ? " ..." : "");
}

}  // namespace

void LoraOptions::declare(CLI::App& app) {
  app.add_option("--lora", files, "add a LoRA, with a weight other than 1 as FILE:0.8; may be given several times")
      ->type_name("FILE[:W]")
      ->allow_extra_args(false);
  app.add_flag("--lora-strict", strict, "a LoRA that does not fit as a whole is an error");
}

std::string LoraOptions::summary() const {
  std::string s;
  for (const std::string& file : files) {
    const LoraSpec spec = parse_lora_spec(file);
    s += fmt::format("{}{}:{:g}", s.empty() ? "" : ", ", std::filesystem::path(spec.path).stem().string(), spec.weight);
  }
  return s;
}

std::unique_ptr<Checkpoint> add_loras(std::unique_ptr<Checkpoint> checkpoint, const LoraOptions& options, int threads,
                                      bool quiet) {
  if (options.files.empty()) return checkpoint;
  std::vector<LoraSpec> specs;
  for (const std::string& file : options.files) specs.push_back(parse_lora_spec(file));
  auto merged = std::make_unique<LoraCheckpoint>(std::move(checkpoint), specs, threads);
  for (const LoraReport& r : merged->reports()) {
    if (!quiet) fmt::print(stderr, "{}: applied {} of {}, weight {:g}\n", r.path, r.applied, r.layers, r.weight);
    if (r.unknown.empty()) continue;
    if (options.strict)
      throw file_error("{}: {} of its {} layers are not in this model ({})", r.path, r.unknown.size(), r.layers,
                       first_names(r.unknown));
    fmt::print(stderr, "{}: warning: {} of its {} layers are not in this model ({})\n", r.path, r.unknown.size(),
               r.layers, first_names(r.unknown));
  }
  return merged;
}

}  // namespace darkroom

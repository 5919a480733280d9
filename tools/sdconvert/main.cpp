// sdconvert: checkpoints to .sdw files, and what is in one.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "model/convert.h"
#include "model/single_file_export.h"
#include "model/synthetic.h"
#include "runtime/thread_pool.h"
#include "runtime/weight_file.h"
#include "tools/common/lora_options.h"
#include "tools/common/model_options.h"
#include "tools/common/progress.h"
#include "tools/common/run_main.h"

namespace {

using namespace darkroom;

constexpr double kMiB = 1 << 20;

const char* type_name(const WeightFileTensor& t) {
  return t.encoding == WeightEncoding::q8 ? "q8" : dtype_name(t.dtype);
}

// What quantising did, against f16.
void print_report(const std::vector<QuantisedClass>& classes) {
  fmt::print("{:<22} {:>7} {:>10} {:>10} {:>11} {:>14}\n", "q8", "tensors", "f16 MiB", "q8 MiB", "rms error",
             "largest error");
  for (const QuantisedClass& c : classes)
    fmt::print("{:<22} {:>7} {:>10.1f} {:>10.1f} {:>10.3f}% {:>13.2f}%\n", c.name, c.tensors,
               2 * double(c.elements) / kMiB, double(c.bytes) / kMiB, 100 * c.relative_rms, 100 * c.largest);
}

int inspect(const std::string& path, bool as_json) {
  const WeightFile file(path);
  if (as_json) {
    nlohmann::json j = {{"file", path}, {"bytes", file.size()}, {"components", file.components()}};
    for (const WeightFileTensor& t : file.tensors()) {
      nlohmann::json shape = nlohmann::json::array();
      for (int i = 0; i < t.shape.rank(); ++i) shape.push_back(t.shape[i]);
      j["tensors"].push_back({{"component", file.components()[t.component]},
                              {"name", t.name},
                              {"dtype", type_name(t)},
                              {"shape", shape},
                              {"offset", t.offset},
                              {"bytes", t.bytes},
                              {"xxh3", fmt::format("{:016x}", t.checksum)}});
    }
    for (const std::string& name : file.texts()) j["texts"][name] = std::string(*file.text(name));
    fmt::print("{}\n", j.dump(1));
    return 0;
  }
  fmt::print("{}: {:.1f} MiB\n", path, double(file.size()) / kMiB);
  for (size_t c = 0; c < file.components().size(); ++c) {
    size_t count = 0;
    uint64_t bytes = 0;
    int64_t elements = 0;
    std::map<std::string, size_t> types;
    for (const WeightFileTensor& t : file.tensors()) {
      if (t.component != c) continue;
      ++count;
      bytes += t.bytes;
      elements += t.shape.elements();
      ++types[type_name(t)];
    }
    std::string kinds;
    for (const auto& [type, n] : types) kinds += fmt::format("{}{}", kinds.empty() ? "" : ", ", type);
    fmt::print("  {:<16} {:>5} tensors  {:>8.2f} M parameters  {:>9.1f} MiB  {}\n", file.components()[c], count,
               double(elements) / 1e6, double(bytes) / kMiB, kinds);
  }
  for (const std::string& name : file.texts()) fmt::print("  {:<42} {} bytes\n", name, file.text(name)->size());
  return 0;
}

int verify(const std::string& path) {
  const WeightFile file(path);
  ProgressBar bar("verify", "MiB", false);
  uint64_t done = 0;
  for (const WeightFileTensor& t : file.tensors()) {
    if (interrupted()->load()) return int(ErrorKind::cancelled);
    file.verify(t);
    file.release(t);
    done += t.bytes;
    bar.update(double(done) / kMiB, double(file.size()) / kMiB);
  }
  bar.finish();
  fmt::print("{}: {} tensors, every checksum is right\n", path, file.tensors().size());
  return 0;
}

int run(int argc, char** argv) {
  CLI::App app("Makes .sdw weight files from checkpoints: diffusers folders, single .safetensors and .ckpt files.",
               "sdconvert");
  app.set_version_flag("--version", version_text());
  app.footer(
      "Examples:\n  sdconvert stable-diffusion-v1-5/ sd15.sdw --dtype f16\n"
      "  sdconvert dreams.safetensors dreams.sdw --vae vae-ft-mse.safetensors\n"
      "  sdconvert old.ckpt new.safetensors              one file into another of the same layout\n"
      "  sdconvert inspect sd15.sdw\n"
      "Exit codes: 0 done, 2 wrong arguments, 3 a bad or missing file, 4 memory, 130 interrupted.");
  std::string source, target, dtype = "keep", family, inspected, verified;
  bool as_json = false, quiet = false;
  app.add_option("SRC", source, "a diffusers folder, a single .safetensors or .ckpt file, or a .sdw file");
  app.add_option("OUT", target, "the .sdw file to write; .safetensors and .ckpt: one file in LDM's layout");
  app.add_option("--dtype", dtype, "type of the weights: keep f32 f16 bf16; q8: 8 bits where it pays, else f16")
      ->check(CLI::IsMember({"keep", "f32", "f16", "bf16", "q8"}))
      ->capture_default_str();
  app.add_option("--synthetic", family, "weights of full size from a rule, in place of SRC: sd15 sd21 sdxl")
      ->type_name("FAMILY");
  ModelOptions model;
  declare_model_options(app, model);
  LoraOptions loras;
  loras.declare(app);
  app.add_flag("-q,--quiet", quiet, "no progress, and not what was recognised");
  CLI::App* inspect_app = app.add_subcommand("inspect", "print what is in a .sdw file");
  inspect_app->add_option("FILE", inspected)->required();
  inspect_app->add_flag("--json", as_json, "as JSON, tensor by tensor");
  CLI::App* verify_app = app.add_subcommand("verify", "read all of a .sdw file and compare checksums");
  verify_app->add_option("FILE", verified)->required();
  int exit_code = 0;
  if (!parse_arguments(app, argc, argv, &exit_code)) return exit_code;
  const std::atomic<bool>* stop = interrupted();
  if (*inspect_app) return inspect(inspected, as_json);
  if (*verify_app) return verify(verified);

  if (!family.empty() && target.empty()) std::swap(source, target);
  if (target.empty() || (family.empty() && source.empty()))
    throw usage_error("wants a source and a target: sdconvert SRC OUT.sdw (--help tells more)");
  if (!family.empty() && !source.empty())
    throw usage_error("--synthetic takes the place of SRC: sdconvert --synthetic {} OUT.sdw", family);
  std::unique_ptr<Checkpoint> checkpoint =
      family.empty() ? open_checkpoint(source, checkpoint_options(model, source))
                     : std::unique_ptr<Checkpoint>(std::make_unique<SyntheticCheckpoint>(family));
  checkpoint = add_loras(std::move(checkpoint), loras, default_threads(), quiet);
  ConvertOptions options;
  if (dtype != "keep") options.dtype = dtype == "f32" ? DType::f32 : dtype == "bf16" ? DType::bf16 : DType::f16;
  std::vector<QuantisedClass> classes;
  options.q8 = dtype == "q8";
  options.report = &classes;
  options.source_name =
      family.empty() ? std::filesystem::path(source).lexically_normal().filename().string() : "synthetic " + family;
  options.loras = loras.summary();
  if (!quiet)
    for (const std::string& line : checkpoint->evidence()) fmt::print("{}\n", line);
  ProgressBar bar("convert", "MiB", quiet);
  const auto progress = [&](uint64_t n, uint64_t total) { bar.update(double(n) / kMiB, double(total) / kMiB); };
  const bool single = target.ends_with(".safetensors") || target.ends_with(".ckpt");
  if (single && options.q8) throw usage_error("--dtype q8: is a type of .sdw files; {} is none", target);
  const bool done = single ? export_single_file(*checkpoint, target, options.dtype, progress, stop)
                           : convert(*checkpoint, target, options, progress, stop);
  bar.finish();
  if (done && options.q8 && !quiet) print_report(classes);
  if (done) return 0;
  fmt::print(stderr, "sdconvert: interrupted; nothing is written\n");
  return int(ErrorKind::cancelled);
}

}  // namespace

int main(int argc, char** argv) { return darkroom::run_main("sdconvert", argc, argv, run); }

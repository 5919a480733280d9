// bench_picture: one part of making a picture, run whenever it is told to. bench/picture/run.py drives it in turn with other
// engines; by hand: yes run | head -5 | bench_picture --model sd15 --part decode
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "bench/common/model.h"
#include "bench/picture/parts.h"
#include "kernels/core/error.h"
#include "runtime/atomic_file.h"
#include "tools/common/run_main.h"

namespace {

using namespace darkroom;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// VmHWM: the most memory that was resident, mapped pages included.
int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  throw resource_error("/proc/self/status has no VmHWM");
}

void say(const nlohmann::json& line) {
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

void write_configs(const Checkpoint& checkpoint, const std::filesystem::path& folder) {
  for (const std::string& name : checkpoint.texts()) {
    const std::string text = checkpoint.required_text(name);
    std::filesystem::create_directories((folder / name).parent_path());
    AtomicFile file((folder / name).string());
    file.write(text.data(), text.size());
    file.commit();
  }
}

int run(int argc, char** argv) {
  CLI::App app(
      "Loads one part of making a picture, prints a line of JSON about it, then runs it for each line \"run\" on stdin "
      "and\n"
      "prints the seconds that it took; at the end of stdin, the peak of its memory.",
      "bench_picture");
  std::string model = "sd15", precision = "f32", device = "cpu", configs;
  bench::PartOptions options;
  options.session.threads = default_threads();
  std::vector<std::string> disabled, kernels;
  app.add_option("-m,--model", model, "a .sdw file, a diffusers folder, or sd15 sd21 sdxl: weights from a rule")
      ->capture_default_str();
  app.add_option("--part", options.part, "text step decode picture")->capture_default_str();
  app.add_option("--precision", precision,
                 "f32, bf16, f16 (on a GPU), int8: products of whole numbers in the UNet, the rest f32; or int8_bf16: "
                 "the rest bf16")
      ->check(CLI::IsMember({"f32", "bf16", "f16", "int8", "int8_bf16"}))
      ->capture_default_str();
  app.add_option("--device", device, "where to compute")->type_name("cpu|cuda|auto")->capture_default_str();
  app.add_option("--size", options.size, "pixels, both ways")->check(CLI::Range(8, 16384))->capture_default_str();
  app.add_option("--steps", options.steps, "of a whole picture")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--threads", options.session.threads, "threads")
      ->check(CLI::Range(1, int(ThreadPool::kMaxThreads)))
      ->capture_default_str();
  app.add_option("--no-fuse", disabled, "switch a fusion pass off")->type_name("PASS");
  app.add_flag("--exact", options.session.exact, "direct sums only: no Winograd");
  app.add_option("--kernel", kernels, "force a kernel, as conv2d:ref")->type_name("OP:VARIANT");
  app.add_option("--configs", configs, "only write the model's config files to this folder")->type_name("FOLDER");
  int exit_code = 0;
  if (!parse_arguments(app, argc, argv, &exit_code)) return exit_code;

  const auto begin = Clock::now();
  std::unique_ptr<Checkpoint> checkpoint = bench::open_model(model);
  if (!configs.empty()) return write_configs(*checkpoint, configs), 0;
  options.dtype = precision.ends_with("bf16") ? DType::bf16 : precision == "f16" ? DType::f16 : DType::f32;
  options.session.device = choose_device(device).device;
  options.int8 = precision.starts_with("int8");
  for (const std::string& pass : disabled) {
    check_pass_name(pass);
    options.session.disabled_passes.insert(pass);
  }
  for (const std::string& kernel : kernels) parse_kernel_override(kernel, options.session.kernels);
  const std::unique_ptr<bench::Part> part = bench::make_part(std::move(checkpoint), options);
  say({{"engine", "darkroom"},
       {"version", DARKROOM_VERSION},
       {"device", device_name(options.session.device)},
       {"isa", isa_name(active_isa())},
       {"note", ""},
       {"plan", part->plan()},
       {"load_seconds", seconds_since(begin)}});
  for (std::string line; std::getline(std::cin, line);) {
    if (line != "run") throw usage_error("{}: is no command; there is run", line);
    const auto start = Clock::now();
    part->run();
    say({{"seconds", seconds_since(start)}});
  }
  nlohmann::json last = {{"peak_bytes", peak_bytes()}};
  if (options.session.device == Device::cuda)
    last["device_bytes"] = part->session().weight_bytes() + part->session().arena_bytes();
  say(last);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return darkroom::run_main("bench_picture", argc, argv, run); }

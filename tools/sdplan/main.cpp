// sdplan: what a model's plans do, before they run.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "kernels/core/error.h"
#include "model/pipeline.h"
#include "runtime/atomic_file.h"
#include "runtime/plan_report.h"
#include "runtime/tune.h"
#include "tools/common/default_model.h"
#include "tools/common/run_main.h"
#include "tools/common/tuning_file.h"

namespace {

using namespace darkroom;

void write_text(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

// Measures what these plans could be run by, and keeps it for this machine.
int tune_plans(const std::vector<ReportedPlan>& plans, Session& session, int runs) {
  const std::string path = tuning_path();
  if (path.empty())
    throw usage_error("tune: there is no file to keep the times in: name one in DARKROOM_TUNING, or set HOME");
  if (const std::filesystem::path folder = std::filesystem::path(path).parent_path(); !folder.empty()) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw file_error("{}: the folder cannot be made: {}", path, error.message());
  }
  {
    [[maybe_unused]] const AtomicFile trial(path);  // an error now, not after all is measured
  }
  const std::shared_ptr<const Tuning> earlier = find_tuning();
  Tuning tuning = earlier ? *earlier : Tuning();
  const std::atomic<bool>* stop = interrupted();
  SelectOptions options = session.select_options();
  options.kernels.clear();
  options.exact = false;
  size_t measured = 0;
  for (const ReportedPlan& plan : plans)
    tune(plan.plan, session.backend(), options, runs, tuning, [&](const std::string& key, const Tuning::Times& times) {
      fmt::print("{}\n", key);
      for (const auto& [variant, seconds] : times) fmt::print("  {:24} {:10.3f} ms\n", variant, seconds * 1e3);
      ++measured;
      return !stop->load();
    });
  tuning.save(path, session.backend().description());
  fmt::print("{}: {} calls, {} of them measured now{}\n", path, tuning.size(), measured,
             stop->load() ? "; interrupted, run it again to go on" : "");
  return stop->load() ? int(ErrorKind::cancelled) : 0;
}

Isa cuda_isa(std::string_view name) {
  for (const Isa isa : {Isa::sm86, Isa::sm89, Isa::sm90, Isa::sm100, Isa::sm120})
    if (name == isa_name(isa)) return isa;
  return Isa::sm80;
}

int run(int argc, char** argv) {
  CLI::App app("Looks inside the plans of a model: kernels, fusions, memory.", "sdplan");
  app.set_version_flag("--version", version_text());
  app.footer(
      "Examples:\n  sdplan -m sd15.sdw --graph unet\n  sdplan -m sd15.sdw --html plan.html\n  sdplan -m sd15.sdw "
      "--no-fuse group_norm_silu --json - | less\n  sdplan tune -m sd15.sdw");
  std::string model, dtype = "f32", quantize = "none", device = "cpu", chip = "sm80", only, json, html;
  std::vector<std::string> disabled, kernels;
  int width = 0, height = 0, threads = default_threads();
  int64_t batch = 2, tokens = 77;
  bool refused = false, no_hoist = false, exact = false, untuned = false;
  int runs = 5;
  app.add_option("-m,--model", model, "a .sdw file or a diffusers folder (default: Scenes)")->type_name("MODEL");
  app.add_option("-W,--width", width, "pixels (default: native size)")->type_name("N");
  app.add_option("-H,--height", height, "pixels")->type_name("N");
  app.add_option("--batch", batch, "of the UNet: 2 with guidance")->check(CLI::Range(1, 256))->capture_default_str();
  app.add_option("--tokens", tokens, "of the prompt")->check(CLI::Range(1, 10000))->capture_default_str();
  app.add_option("--graph", only,
                 "only this one: text_encoder text_encoder_2 unet unet_prompt unet_schedule vae_decoder vae_encoder")
      ->type_name("NAME");
  app.add_option("--dtype", dtype, "type of activations")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--quantize", quantize, "int8: the UNet's linear layers multiply whole numbers")
      ->check(CLI::IsMember({"none", "int8"}))
      ->capture_default_str();
  app.add_option("--device", device, "the device that the plans are for; cuda needs no GPU here")
      ->type_name("cpu|cuda|auto")
      ->capture_default_str();
  app.add_option("--chip", chip, "with cuda: the chip that the plans are for")
      ->check(CLI::IsMember({"sm80", "sm86", "sm89", "sm90", "sm100", "sm120"}))
      ->capture_default_str();
  app.add_option("--threads", threads, "threads")
      ->check(CLI::Range(1, int(ThreadPool::kMaxThreads)))
      ->capture_default_str();
  app.add_option("--no-fuse", disabled, "switch a fusion pass off")->type_name("PASS");
  app.add_option("--kernel", kernels, "force a kernel, as conv2d:ref")->type_name("OP:VARIANT");
  app.add_flag("--exact", exact, "direct sums only: no Winograd");
  app.add_flag("--no-hoist", no_hoist, "leave what is computed once in the step");
  app.add_flag("--refused", refused, "print the kernels that were passed over, and why");
  app.add_option("--json", json, "write JSON; - for stdout")->type_name("FILE");
  app.add_option("--html", html, "write one self-contained page")->type_name("FILE");
  app.add_flag("--untuned", untuned, "by estimates, not by what sdplan tune measured");
  app.fallthrough();
  CLI::App* tuner = app.add_subcommand(
      "tune", "measure the kernels that could run each call, and keep the times: sdrun then takes the fastest");
  tuner->add_option("--runs", runs, "of each kernel, the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  int exit_code = 0;
  if (!parse_arguments(app, argc, argv, &exit_code)) return exit_code;

  PipelineOptions options;
  options.dtype = parse_dtype(dtype);
  options.session.device = choose_device(device).device;
  if (options.session.device == Device::cuda && !tuner->parsed()) options.session.plan_for = cuda_isa(chip);
  options.int8 = quantize == "int8";
  options.session.threads = threads;
  options.session.exact = exact;
  if (!untuned && !tuner->parsed()) options.session.tuning = find_tuning();
  for (const std::string& pass : disabled) {
    check_pass_name(pass);
    options.session.disabled_passes.insert(pass);
  }
  for (const std::string& kernel : kernels) parse_kernel_override(kernel, options.session.kernels);
  const std::string path = model.empty() ? default_model() : model;
  Pipeline pipeline(open_checkpoint(path), options);
  Request request;
  request.width = width;
  request.height = height;
  const ResolvedRequest resolved = pipeline.resolve(request);

  std::vector<ReportedPlan> plans;
  std::string names;
  const auto add = [&](Graph graph, std::vector<PassReport> passes) {
    names += (names.empty() ? "" : ", ") + graph.name();
    if (!graph.nodes().empty() && (only.empty() || only == graph.name()))
      plans.push_back({pipeline.session().plan(std::move(graph)), std::move(passes)});
  };
  for (Graph& graph : pipeline.graphs(resolved.request.width, resolved.request.height, batch, tokens)) {
    std::vector<PassReport> passes = pipeline.session().fuse(graph);
    if (graph.name() == "unet" && !no_hoist) {
      const std::string_view prompt[] = {"context"},
                             schedule[] = {"timestep", "text_embeds", "time_ids", "timestep_cond"};
      add(hoist(graph, prompt, "unet_prompt"), {});
      add(hoist(graph, schedule, "unet_schedule"), {});
    }
    add(std::move(graph), std::move(passes));
  }
  if (plans.empty()) throw usage_error("--graph {}: there are {}", only, names);
  if (tuner->parsed()) return tune_plans(plans, pipeline.session(), runs);
  if (!html.empty()) write_text(html, plan_html(plans, path));
  if (json == "-") fmt::print("{}\n", plan_json(plans));
  if (!json.empty() && json != "-") write_text(json, plan_json(plans));
  if (json.empty() && html.empty())
    for (const ReportedPlan& plan : plans) fmt::print("{}", plan_text(plan, refused));
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return darkroom::run_main("sdplan", argc, argv, run); }

// Whole runs of the loop: sampler, guidance and the UNet as the pipeline drives it, against the library's own pipelines.
#include <fmt/core.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "kernels/core/error.h"
#include "model/samplers.h"
#include "tests/parity/parity.h"

namespace darkroom::parity {

namespace {

using testing::tensor;

struct Common {
  std::vector<float> noise, init_latents;
  Conditioning conditioning;
  std::vector<int64_t> shape;  // B C H W of the latents
  int64_t tokens;
};

void run_one(Subject& subject, const UNetConfig& config, const Common& common, const std::string& name,
             const nlohmann::json& meta, const Safetensors& golden, Report& report, std::vector<float>* final_latents) {
  SamplerOptions options;
  options.sampler = name.substr(0, name.find('.'));
  if (options.sampler.ends_with("_karras"))
    options.sampler = options.sampler.substr(0, options.sampler.size() - 7) + " karras";
  options.steps = meta.at("steps").get<int>();
  options.begin = meta.at("begin").get<int>();
  const float guidance = meta.at("guidance").get<float>();
  const SchedulerConfig scheduler = parse_scheduler_config(meta.at("config").dump(), name);
  const SamplerProgram program = make_program(scheduler, options);

  const int64_t C = common.shape[1], H = common.shape[2], W = common.shape[3];
  const size_t n = size_t(C * H * W);
  const auto nhwc = [&](const std::vector<float>& x, size_t row) {
    return to_nhwc({x.begin() + std::ptrdiff_t(row * n), x.begin() + std::ptrdiff_t((row + 1) * n)}, 1, C, H, W);
  };
  UNetGraphOptions graph;
  graph.batch = 2;
  graph.height = H;
  graph.width = W;
  graph.tokens = common.tokens;
  graph.dtype = subject.dtype;
  graph.int8 = subject.int8;
  const bool image = name.find("img2img") != std::string::npos;
  const std::vector<float> noise = nhwc(common.noise, 0), init = nhwc(common.init_latents, 0);
  LoopRequest request;
  request.program = &program;
  request.conditioning = &common.conditioning;
  request.guided_calls = int(program.steps.size());
  request.guidance = guidance;
  for (size_t i = 0; i < n; ++i)
    request.latents.push_back(image ? float(program.image_signal) * init[i] + float(program.image_noise) * noise[i]
                                    : float(program.init_noise_sigma) * noise[i]);
  Loop loop(subject.session, config, graph);
  loop.begin(request);

  const std::vector<float> golden_times = tensor(golden, "timesteps");
  std::vector<float> my_times;
  for (const SamplerStep& step : program.steps) my_times.push_back(float(step.timestep));
  report.compare(name + " timesteps", my_times, golden_times, 1e-6);
  if (golden.find("sigmas")) {
    std::vector<float> sigmas(program.sigmas.begin() + options.begin * program.calls_per_step, program.sigmas.end());
    const std::vector<float> theirs = tensor(golden, "sigmas");
    sigmas.resize(std::min(sigmas.size(), theirs.size()));
    report.compare(name + " sigmas", sigmas, theirs, 1e-6);
  }
  const std::vector<float> latents = tensor(golden, "latents"), predictions = tensor(golden, "noise_pred");
  const std::vector<float> draws = golden.find("step_noise") ? tensor(golden, "step_noise") : std::vector<float>();
  report.compare(name + " start", to_nchw(request.latents, 1, H, W, C),
                 {latents.begin(), latents.begin() + std::ptrdiff_t(n)}, 0);
  size_t drawn = 0;
  for (size_t s = 0; s < program.steps.size(); ++s) {
    if (program.steps[s].draws) loop.write_noise(nhwc(draws, drawn++));
    loop.run();
    if ((s + 1) * n <= predictions.size() && s + 1 == program.steps.size())
      report.compare(fmt::format("{} noise_pred {}", name, s), loop.read(kSlotModel), nhwc(predictions, s), 0);
    if (s + 1 < program.steps.size() && s % 4 == 0)
      report.compare(fmt::format("{} latents {}", name, s + 1), loop.read(kSlotX), nhwc(latents, s + 1), 0);
  }
  const std::vector<float> last = loop.read(kSlotX);
  report.compare(name + " last latents", last, nhwc(latents, program.steps.size()), report.limits().trajectory);
  if (final_latents) *final_latents = to_nchw(last, 1, H, W, C);
}

}  // namespace

void compare_trajectories(Subject& subject, const std::string& folder, Report& report) {
  namespace fs = std::filesystem;
  std::ifstream file(folder + "/meta.json");
  if (!file) throw file_error("{}/meta.json: cannot be read", folder);
  const nlohmann::json meta = nlohmann::json::parse(file);
  const Safetensors common_file(folder + "/traj/common.safetensors");
  const UNetConfig config = parse_unet_config(subject.checkpoint.required_text("unet/config.json"), "unet/config.json");
  const VaeConfig vae = parse_vae_config(subject.checkpoint.required_text("vae/config.json"), "vae/config.json");
  Common common;
  common.noise = tensor(common_file, "noise");
  common.init_latents = tensor(common_file, "init_latents");
  common.conditioning.context = tensor(common_file, "context");
  common.shape = common_file.find("noise")->shape;
  common.tokens = common_file.find("context")->shape[1];
  if (config.text_time) {
    common.conditioning.text_embeds = tensor(common_file, "text_embeds");
    common.conditioning.time_ids = tensor(common_file, "time_ids");
  }

  // Where img2img starts: a sample of the encoder's posterior.
  const Posterior p = run_encoder(subject, tensor(common_file, "image"), common_file.find("image")->shape);
  const std::vector<float> posterior_noise = tensor(common_file, "posterior_noise");
  std::vector<float> init;
  for (size_t i = 0; i < p.mean.size(); ++i)
    init.push_back((p.mean[i] + p.std[i] * posterior_noise[i]) * vae.scaling_factor);
  report.compare("traj init_latents", init, common.init_latents, report.limits().network);

  int ran = 0;
  for (const auto& [name, entry] : meta.at("trajectories").items()) {
    const std::string path = folder + "/traj/" + name + ".safetensors";
    if (!fs::exists(path)) {
      report.fail(name + ": meta.json has it, the folder does not");
      continue;
    }
    std::vector<float> last;
    run_one(subject, config, common, name, entry, Safetensors(path), report, &last);
    ++ran;
    if (name != "ddim.txt2img") continue;
    for (float& x : last) x /= vae.scaling_factor;
    const std::vector<float> image = run_decoder(subject, last, common.shape),
                             golden = tensor(common_file, "ddim.image");
    report.compare("traj ddim.image", image, golden, subject.dtype == DType::f32 ? report.limits().trajectory : 0);
  }
  if (ran == 0) report.fail("traj: no trajectory");
}

}  // namespace darkroom::parity

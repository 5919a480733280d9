#include <fmt/core.h>

#include <cmath>

#include "kernels/core/error.h"
#include "model/clip.h"
#include "model/unet.h"
#include "model/vae.h"
#include "tests/parity/parity.h"

namespace darkroom::parity {

namespace {

using testing::tensor;

const std::vector<int64_t>& shape_of(const Safetensors& file, const std::string& name) {
  const SafetensorsEntry* e = file.find(name);
  if (!e) throw file_error("{}: has no tensor {}", file.path(), name);
  return e->shape;
}

// Cases are what stands before the last (or the given) part of the tensors' names.
std::set<std::string> cases_of(const Safetensors& file, const std::string& suffix) {
  std::set<std::string> cases;
  for (const auto& [name, entry] : file.entries())
    if (name.ends_with(suffix)) cases.insert(name.substr(0, name.size() - suffix.size()));
  return cases;
}

}  // namespace

std::map<std::string, std::vector<float>> run_for_outputs(Program& program) {
  std::map<std::string, std::vector<float>> outputs;
  const Graph& graph = program.plan().graph;
  for (const GraphOutput& o : graph.outputs()) {
    outputs[o.name].assign(size_t(graph.shape(o.value).elements()), NAN);
    program.write(o.name, outputs[o.name]);
  }
  program.run();
  for (auto& [name, values] : outputs) program.read(name, values);
  return outputs;
}

void compare_text(Subject& subject, const std::string& component, const Safetensors& golden, Report& report) {
  const std::string where = component + "/config.json";
  const ClipTextConfig config = parse_clip_text_config(subject.checkpoint.required_text(where), where);
  const std::vector<int64_t>& shape = shape_of(golden, "input_ids");
  std::vector<int32_t> ids, eos;
  for (float x : tensor(golden, "input_ids")) ids.push_back(int32_t(x));
  for (float x : tensor(golden, "eos_index")) eos.push_back(int32_t(x));

  ClipGraphOptions options;
  options.batch = shape[0];
  options.tokens = shape[1];
  options.dtype = subject.dtype;
  options.pooled = options.all_hidden = true;
  {
    const auto program = subject.session.compile(build_clip(config, component, options));
    program->write("input_ids", ids);
    program->write("eos_index", eos);
    const std::map<std::string, std::vector<float>> outputs = run_for_outputs(*program);
    for (int64_t i = 0; i <= config.num_hidden_layers; ++i) {
      const std::string name = "hidden_states." + std::to_string(i);
      report.compare(component + " " + name, outputs.at(name), tensor(golden, name), report.limits().network);
    }
    report.compare(component + " last_hidden_state", outputs.at("hidden"), tensor(golden, "last_hidden_state"),
                   report.limits().network);
    const std::string pooled = config.with_projection ? "pooled_pre_projection" : "pooler_output";
    report.compare(component + " " + pooled, outputs.at("pooled"), tensor(golden, pooled), report.limits().network);
    if (config.with_projection)
      report.compare(component + " text_embeds", outputs.at("text_embeds"), tensor(golden, "text_embeds"),
                     report.limits().network);
  }
  options.pooled = options.all_hidden = false;
  for (const std::string& k : cases_of(golden, "")) {
    if (!k.starts_with("clip_skip.")) continue;
    options.layers = config.num_hidden_layers - std::stoll(k.substr(10));
    const auto program = subject.session.compile(build_clip(config, component, options));
    program->write("input_ids", ids);
    report.compare(component + " " + k, run_for_outputs(*program).at("hidden"), tensor(golden, k),
                   report.limits().network);
  }
}

void compare_unet(Subject& subject, const Safetensors& golden, Report& report) {
  const UNetConfig config = parse_unet_config(subject.checkpoint.required_text("unet/config.json"), "unet/config.json");
  const std::set<std::string> cases = cases_of(golden, ".out");
  if (cases.empty()) report.fail("unet: has no case");
  for (const std::string& c : cases) {
    const std::vector<int64_t>& shape = shape_of(golden, c + ".sample");
    UNetGraphOptions options;
    options.batch = shape[0];
    options.height = shape[2];
    options.width = shape[3];
    options.tokens = shape_of(golden, c + ".encoder_hidden_states")[1];
    options.dtype = subject.dtype;
    options.int8 = subject.int8;
    // The whole graph, so that each sample has a time of its own.
    const auto program = subject.session.compile(build_unet(config, options));
    program->write("sample", to_nhwc(tensor(golden, c + ".sample"), shape[0], shape[1], shape[2], shape[3]));
    program->write("timestep", tensor(golden, c + ".timestep"));
    program->write("context", tensor(golden, c + ".encoder_hidden_states"));
    if (config.text_time) {
      program->write("text_embeds", tensor(golden, c + ".text_embeds"));
      program->write("time_ids", tensor(golden, c + ".time_ids"));
    }
    report.compare(
        "unet " + c,
        to_nchw(run_for_outputs(*program).at("noise_pred"), shape[0], shape[2], shape[3], config.out_channels),
        tensor(golden, c + ".out"), report.limits().network);
  }
}

std::vector<float> run_decoder(Subject& subject, const std::vector<float>& z, const std::vector<int64_t>& shape) {
  const VaeConfig config = parse_vae_config(subject.checkpoint.required_text("vae/config.json"), "vae/config.json");
  VaeGraphOptions options{shape[0], shape[2], shape[3], subject.dtype};
  const auto program = subject.session.compile(build_vae_decoder(config, options));
  program->write("z", to_nhwc(z, shape[0], shape[1], shape[2], shape[3]));
  const int64_t h = shape[2] * config.factor(), w = shape[3] * config.factor();
  return to_nchw(run_for_outputs(*program).at("image"), shape[0], h, w, config.out_channels);
}

Posterior run_encoder(Subject& subject, const std::vector<float>& image, const std::vector<int64_t>& shape) {
  const VaeConfig config = parse_vae_config(subject.checkpoint.required_text("vae/config.json"), "vae/config.json");
  VaeGraphOptions options{shape[0], shape[2], shape[3], subject.dtype};
  const auto program = subject.session.compile(build_vae_encoder(config, options));
  program->write("image", to_nhwc(image, shape[0], shape[1], shape[2], shape[3]));
  const Shape out = program->plan().graph.shape(program->plan().graph.outputs()[0].value);
  const std::vector<float> nchw = to_nchw(run_for_outputs(*program).at("moments"), out[0], out[1], out[2], out[3]);
  Posterior p;
  const size_t half = size_t(out[1] * out[2] * out[3] / 2);
  for (int64_t b = 0; b < out[0]; ++b) {
    const auto begin = nchw.begin() + std::ptrdiff_t(size_t(b) * 2 * half);
    p.mean.insert(p.mean.end(), begin, begin + std::ptrdiff_t(half));
    p.logvar.insert(p.logvar.end(), begin + std::ptrdiff_t(half), begin + std::ptrdiff_t(2 * half));
  }
  for (float& x : p.logvar) {
    x = std::min(std::max(x, -30.0f), 20.0f);
    p.std.push_back(std::exp(0.5f * x));
  }
  return p;
}

void compare_vae(Subject& subject, const Safetensors& golden, Report& report) {
  const double limit = report.limits().network;
  for (const std::string& c : cases_of(golden, ".z")) {
    const std::vector<float> image = run_decoder(subject, tensor(golden, c + ".z"), shape_of(golden, c + ".z"));
    report.compare("vae " + c, image, tensor(golden, c + ".image"), limit);
    const std::vector<int64_t>& shape = shape_of(golden, c + ".image");
    const std::vector<float> grey = tensor(golden, c + ".u8_nhwc"),
                             nhwc = to_nhwc(image, shape[0], shape[1], shape[2], shape[3]);
    double worst = 0;
    for (size_t i = 0; i < nhwc.size(); ++i)
      worst = std::max(
          worst, std::abs(double(std::nearbyint(std::clamp(nhwc[i] / 2 + 0.5f, 0.0f, 1.0f) * 255)) - double(grey[i])));
    report.value("vae " + c + " u8", worst, subject.dtype == DType::f32 ? report.limits().grey : 0, "grey");
  }
  for (const std::string& c : cases_of(golden, ".mean")) {
    const Posterior p = run_encoder(subject, tensor(golden, c + ".image"), shape_of(golden, c + ".image"));
    report.compare("vae " + c + " mean", p.mean, tensor(golden, c + ".mean"), limit);
    report.compare("vae " + c + " logvar", p.logvar, tensor(golden, c + ".logvar"), limit);
    report.compare("vae " + c + " std", p.std, tensor(golden, c + ".std"), limit);
  }
}

}  // namespace darkroom::parity

// Full-size networks on weights from a rule (model/synthetic.h): no weight file is needed.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "kernels/core/error.h"
#include "model/clip.h"
#include "model/synthetic.h"
#include "model/unet.h"
#include "tests/parity/parity.h"

namespace darkroom::parity {

namespace {

using testing::tensor;

// The inputs come from the same stream as the weights, under names of their own: k/64.
std::vector<float> input(const std::string& name, int64_t count) {
  std::vector<int32_t> k(static_cast<size_t>(count));
  synthetic_integers(name, 0, count, k.data());
  std::vector<float> x;
  for (int32_t i : k) x.push_back(float(i) / 64);
  return x;
}

class Timer {
 public:
  explicit Timer(const char* what) : what_(what), start_(std::chrono::steady_clock::now()) {}
  ~Timer() {
    fmt::print("  {}: {:.2f} s\n", what_,
               std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count());
  }

 private:
  const char* what_;
  std::chrono::steady_clock::time_point start_;
};

void compare_text_part(Subject& subject, const Safetensors& golden, Report& report) {
  const ClipTextConfig config =
      parse_clip_text_config(subject.checkpoint.required_text("text_encoder/config.json"), "text_encoder");
  const std::vector<int64_t>& shape = golden.find("text.input_ids")->shape;
  ClipGraphOptions options;
  options.batch = shape[0];
  options.pooled = options.all_hidden = true;
  options.dtype = subject.dtype;
  std::vector<int32_t> ids, eos;
  for (float x : tensor(golden, "text.input_ids")) ids.push_back(int32_t(x));
  for (int64_t b = 0; b < shape[0]; ++b) {
    const auto row = ids.begin() + b * shape[1];
    eos.push_back(int32_t(std::max_element(row, row + shape[1]) - row));
  }
  const auto program = subject.session.compile(build_clip(config, "text_encoder", options));
  program->write("input_ids", ids);
  program->write("eos_index", eos);
  std::map<std::string, std::vector<float>> outputs;
  {
    Timer timer("text");
    outputs = run_for_outputs(*program);
  }
  const double limit = report.limits().network;
  report.compare("text last_hidden_state", outputs.at("hidden"), tensor(golden, "text.last_hidden_state"), limit);
  report.compare("text penultimate", outputs.at("hidden_states." + std::to_string(config.num_hidden_layers - 1)),
                 tensor(golden, "text.penultimate"), limit);
  report.compare("text pooled", outputs.at("pooled"), tensor(golden, "text.pooled"), limit);
}

void compare_unet_part(Subject& subject, const Safetensors& golden, Report& report) {
  const UNetConfig config = parse_unet_config(subject.checkpoint.required_text("unet/config.json"), "unet/config.json");
  const std::vector<int64_t>& shape = golden.find("unet.out")->shape;
  const int64_t L = shape[2], batch = 2, tokens = 77;
  Denoiser denoiser(subject.session, config, {batch, L, L, tokens, subject.dtype, subject.int8});
  Conditioning c;
  c.context = input("@context", batch * tokens * config.cross_attention_dim);
  if (config.text_time) {
    c.text_embeds =
        input("@pooled", batch * (config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim));
    for (int64_t b = 0; b < batch; ++b) c.time_ids.insert(c.time_ids.end(), {1024, 1024, 0, 0, 1024, 1024});
  }
  denoiser.prepare(c, {500.0});
  std::vector<float> sample = to_nhwc(input("@latent", batch * 4 * L * L), batch, 4, L, L), out(sample.size(), NAN);
  denoiser.step().write("sample", sample);
  denoiser.step().write("noise_pred", out);
  for (int run = 0; run < 2; ++run) {
    Timer timer(run == 0 ? "unet, first run" : "unet");
    denoiser.run(0);
    denoiser.step().read("noise_pred", out);
  }
  report.compare("unet out", to_nchw(out, batch, L, L, 4), tensor(golden, "unet.out"), report.limits().network);
}

void compare_vae_part(Subject& subject, const Safetensors& golden, Report& report) {
  const double limit = report.limits().network;
  const std::vector<int64_t> z = {1, 4, 64, 64}, image = {1, 3, 256, 256};
  std::vector<float> decoded;
  {
    Timer timer("vae decode, with packing");
    decoded = run_decoder(subject, input("@z", 4 * 64 * 64), z);
  }
  // Kept are every fourth pixel in both directions, and the mean over a row.
  constexpr int64_t kSide = 512, kQuarter = kSide / 4;
  std::vector<float> fourth, means;
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t y = 0; y < kSide; ++y) {
      double sum = 0;
      for (int64_t x = 0; x < kSide; ++x) {
        const float v = decoded[size_t((c * kSide + y) * kSide + x)];
        sum += double(v);
        if (y % 4 == 0 && x % 4 == 0) fourth.push_back(v);
      }
      means.push_back(float(sum / kSide));
    }
  static_assert(kQuarter * 4 == kSide);
  report.compare("vae image", fourth, tensor(golden, "vae.image"), limit);
  report.compare("vae image_mean_rows", means, tensor(golden, "vae.image_mean_rows"), limit);
  std::vector<float> pixels = input("@image", 3 * 256 * 256);
  for (float& x : pixels) x = float(std::tanh(double(x)));
  Timer timer("vae encode, with packing");
  const Posterior p = run_encoder(subject, pixels, image);
  report.compare("vae encode_mean", p.mean, tensor(golden, "vae.encode_mean"), limit);
  report.compare("vae encode_logvar", p.logvar, tensor(golden, "vae.encode_logvar"), limit);
}

}  // namespace

std::string family_of(const std::string& file) {
  const std::string stem = std::filesystem::path(file).stem().string();
  return stem.substr(0, stem.find('_'));
}

void compare_fullsize(Subject& subject, const Safetensors& golden, Report& report) {
  if (golden.find("text.last_hidden_state")) compare_text_part(subject, golden, report);
  if (golden.find("unet.out")) compare_unet_part(subject, golden, report);
  if (golden.find("vae.image")) compare_vae_part(subject, golden, report);
}

}  // namespace darkroom::parity

// Holds a model's outputs against those that an independent implementation computed, for any folder in the layout of
// tests/golden/outputs/*: text encoders, UNet, autoencoder, whole trajectories.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/configs.h"
#include "model/loop.h"
#include "tests/support/golden.h"

namespace darkroom::parity {

struct Limits {
  double network = 1e-4;     // relative L2 of a network's outputs; direct sums stay below 2e-5
  double trajectory = 1e-3;  // of the last latents; 0: reported only
  double grey = 1.0;         // steps of an 8-bit picture
};

// One line a comparison; failures are counted.
class Report {
 public:
  explicit Report(Limits limits) : limits_(limits) {}
  const Limits& limits() const { return limits_; }

  // limit 0: printed only.
  void compare(const std::string& name, const std::vector<float>& mine, const std::vector<float>& golden, double limit);
  void value(const std::string& name, double error, double limit, const char* unit = "relative L2");
  void fail(const std::string& what);

  // Prints the summary; the process's exit code.
  int finish() const;

 private:
  Limits limits_;
  int compared_ = 0, failed_ = 0;
  double worst_ = 0;
  std::string worst_name_;
};

// Everything that a comparison needs of the model.
struct Subject {
  const Checkpoint& checkpoint;
  Session session;
  DType dtype;
  bool int8;  // of the UNet

  Subject(const Checkpoint& c, SessionOptions options, DType d, bool i = false)
      : checkpoint(c), session(c, std::move(options)), dtype(d), int8(i) {}
};

std::vector<float> to_nhwc(const std::vector<float>& x, int64_t b, int64_t c, int64_t h, int64_t w);
std::vector<float> to_nchw(const std::vector<float>& x, int64_t b, int64_t h, int64_t w, int64_t c);

// Runs a program whose inputs are written. Outputs, all f32, begin as NaN.
std::map<std::string, std::vector<float>> run_for_outputs(Program& program);

void compare_text(Subject& subject, const std::string& component, const Safetensors& golden, Report& report);
void compare_unet(Subject& subject, const Safetensors& golden, Report& report);
void compare_vae(Subject& subject, const Safetensors& golden, Report& report);
void compare_trajectories(Subject& subject, const std::string& folder, Report& report);
// Full-size networks, for a file named FAMILY_LATENT (sd15_64.safetensors): parts that the file lacks are left out.
std::string family_of(const std::string& file);
void compare_fullsize(Subject& subject, const Safetensors& golden, Report& report);

// The autoencoder on one batch. Shapes are those of the golden files: B C H W.
std::vector<float> run_decoder(Subject& subject, const std::vector<float>& z, const std::vector<int64_t>& shape);
struct Posterior {
  std::vector<float> mean, logvar, std;  // B C H W
};
Posterior run_encoder(Subject& subject, const std::vector<float>& image, const std::vector<int64_t>& shape);

}  // namespace darkroom::parity

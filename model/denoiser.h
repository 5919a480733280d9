// The UNet as a loop runs it: what depends on the prompt alone and what depends on the schedule alone is computed once.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "model/unet.h"
#include "runtime/session.h"

namespace darkroom {

// What the UNet is told beside latents, times and text. All f32, one row a sample.
struct Conditioning {
  std::vector<float> context;      // [batch, tokens, cross_attention_dim]
  std::vector<float> text_embeds;  // XL: [batch, pooled width]
  std::vector<float> time_ids;     // XL: [batch, 5 or 6]
  std::vector<float> guidance;     // LCM: [batch, time_cond_proj_dim]
};

// Each call reads its row of what the schedule gave by a number in the device's memory, so that all calls are the same plan.
class Denoiser {
 public:
  // reuse: how many calls in a row share the deep features that the first of them computes (DeepFeatures in unet.h). 1: none,
  // and every call is exact.
  Denoiser(Session& session, const UNetConfig& config, const UNetGraphOptions& options, int reuse = 1);

  // Computes the prompt's and the schedule's part: call i of the loop is told times[i]. Sizes must fit; internal_error.
  void prepare(const Conditioning& conditioning, const std::vector<double>& times);

  // Memory of the device: sample [batch, H, W, in_channels] (or [1, ..], where it is shared), out [batch, H, W, out_channels],
  // f32. They stay bound for all calls; without this they are step()'s "sample" and "noise_pred".
  void bind(void* sample, void* out);

  // Call i of the loop, in order where deep features are reused. Allocates nothing. False where it was cancelled.
  bool run(size_t i, const std::atomic<bool>* cancel = nullptr);

  // For a loop of one's own: the programs of a call, in order; the first reads the number of the call as its input "call" [1]
  // i32. A shallow call reuses the deep features of the one before. Known once prepare() was called.
  std::array<Program*, 2> call(bool shallow) { return {select_.get(), shallow ? shallow_.get() : step_.get()}; }

  Program& step() { return *step_; }
  const Program& step() const { return *step_; }
  const Plan& plan() const { return step_->plan(); }
  // What prepare() runs; null where there is nothing to compute once.
  const Program* prompt() const { return prompt_.get(); }
  const Program* schedule() const { return schedule_.get(); }

 private:
  void plan_schedule(size_t calls);

  Session& session_;
  UNetConfig config_;
  UNetGraphOptions options_;
  size_t reuse_;
  std::unique_ptr<Program> step_, shallow_, prompt_, schedule_, select_;  // shallow_ where deep features are reused
  std::array<std::unique_ptr<Runner>, 2> runners_;                        // of a call, deep and shallow
  DeviceMemory call_number_;
  size_t calls_ = 0;  // that schedule_ and select_ are planned for
};

}  // namespace darkroom

// The UNet as a loop runs it: what depends on the prompt alone and what depends on the schedule alone is computed once.
#pragma once

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

class Denoiser {
 public:
  // reuse: how many calls in a row share the deep features that the first of them computes (DeepFeatures in unet.h). 1: none,
  // and every call is exact.
  Denoiser(Session& session, const UNetConfig& config, const UNetGraphOptions& options, int reuse = 1);

  // Computes the prompt's and the schedule's part: call i of the loop is told times[i]. Sizes must fit; internal_error.
  void prepare(const Conditioning& conditioning, const std::vector<double>& times);

  // sample [batch, H, W, in_channels] (or [1, ..], where it is shared), out [batch, H, W, out_channels], f32. They stay bound
  // for all calls.
  void bind(float* sample, float* out);

  // Call i of the loop, in order where deep features are reused. Allocates nothing. False where it was cancelled.
  bool run(size_t i, const std::atomic<bool>* cancel = nullptr);

  const Plan& plan() const { return step_->plan(); }
  // What prepare() runs; null where there is nothing to compute once.
  const Program* prompt() const { return prompt_.get(); }
  const Program* schedule() const { return schedule_.get(); }
  const Program& step() const { return *step_; }

 private:
  // A value that crosses from a hoisted part to the step.
  struct Handover {
    std::string name;
    size_t bytes_a_call = 0;  // of the step's input
    bool shallow = false;     // the shallow step reads it too
    std::vector<std::byte> data;
  };
  std::vector<Handover> handovers(const Graph& from, const Graph& to) const;

  Session& session_;
  UNetConfig config_;
  UNetGraphOptions options_;
  size_t reuse_;
  std::unique_ptr<Program> step_, shallow_, prompt_, schedule_;  // shallow_ where deep features are reused
  std::vector<Handover> from_prompt_, from_schedule_;
  std::vector<std::byte> deep_features_;
};

}  // namespace darkroom

// The parts of making a picture, each loaded and ready to run again and again: what bench_picture times.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/pipeline.h"

namespace darkroom::bench {

struct PartOptions {
  std::string part = "step";
  int size = 512;  // pixels, both ways
  int steps = 2;   // of a whole picture
  DType dtype = DType::f32;
  bool int8 = false;  // the UNet's products of whole numbers, where they are worth it
  SessionOptions session;
};

class Part {
 public:
  virtual ~Part() = default;
  // Ends when its results are in the host's memory.
  virtual void run() = 0;
  virtual Session& session() = 0;
  // What its plans say: steps, FLOPs, bytes, arena, weights, kernels by name, passes. Empty where nothing is planned yet.
  virtual nlohmann::json plan() const { return {}; }
};

// "text": the encoders on both prompts of a guided picture (batch 2). "step": one guided call of the UNet; what depends on the
// prompt or the schedule alone is computed beforehand, as in sdrun. Each run ends with its results in the host's memory. "decode": latents to pixels. "picture": all of it with
// `steps` Euler steps, and the PNG file. Throws usage_error on another name. The checkpoint goes to the part.
std::unique_ptr<Part> make_part(std::unique_ptr<Checkpoint> checkpoint, const PartOptions& options);

}  // namespace darkroom::bench

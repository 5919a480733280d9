// One LoRA in every naming scheme. The names are made here by rules and a table of their own, apart from those of the reader.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/lora_names.h"
#include "tests/support/safetensors_writer.h"

namespace darkroom::testing {

struct NamingScheme {
  const char* title;
  // "unet", "down_blocks.0.resnets.0.conv1" → the whole name of a part's tensor.
  std::function<std::string(const std::string& component, const std::string& layer, LoraPart part)> name;
  bool has_alpha;  // else alpha / rank is multiplied into the up part
};
// kohya, PEFT, diffusers, and diffusers' first version; and for tiny-sdxl kohya with LDM's block numbers.
std::vector<NamingScheme> naming_schemes(bool tiny_sdxl);

// A change of one layer: up [O, rank], down [rank, I·KH·KW], and the weight alpha / rank.
struct LayerChange {
  std::string component, layer;
  Shape weight;
  int64_t rank;
  float alpha;
  std::vector<float> up, down;
};
// For every linear and convolution layer of text encoders and UNet; ‖change‖ is about `amount` times ‖weight‖. All numbers are
// exact in f16 and bf16, alpha / rank is a power of two.
std::vector<LayerChange> random_changes(const Checkpoint& model, uint32_t seed, double amount);

SafetensorsWriter lora_file(const std::vector<LayerChange>& changes, const NamingScheme& scheme,
                            DType dtype = DType::f32);

// Adds weight · alpha/rank · up · down to `values` in double; and to `magnitudes` the same of the absolute values, times
// the rank + 2: what an f32 sum may be off by, in units of its roundoff.
void merge_in_double(const LayerChange& change, double weight, std::vector<double>& values,
                     std::vector<double>& magnitudes);

}  // namespace darkroom::testing

// A model as it lies on disk: its tensors, and the texts beside them, by the names of the diffusers layout.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/weight_source.h"

namespace darkroom {

class Checkpoint : public WeightSource {
 public:
  // Text files, by their place in a diffusers folder: "model_index.json", "unet/config.json",
  // "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer_2/special_tokens_map.json".
  virtual std::optional<std::string> text(std::string_view name) const = 0;
  // Those that there are.
  virtual std::vector<std::string> texts() const = 0;
  // "unet", "vae", "text_encoder", "text_encoder_2".
  virtual bool has_component(std::string_view component) const = 0;
  // All tensors, COMPONENT "/" NAME, in no particular order.
  virtual std::vector<std::string> tensors() const = 0;

  // The text, or file_error naming it.
  std::string required_text(std::string_view name) const;
};

// A .sdw file or a diffusers folder. Throws file_error on anything else.
std::unique_ptr<Checkpoint> open_checkpoint(const std::string& path);

}  // namespace darkroom

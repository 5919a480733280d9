// A model as it lies on disk: its tensors, and the texts beside them, by the names of the diffusers layout.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/schedule.h"
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
  // Lines for people: how the model was recognised. None where the files say it themselves.
  virtual std::vector<std::string> evidence() const { return {}; }

  // The text, or file_error naming it.
  std::string required_text(std::string_view name) const;
};

// What a file does not say itself.
struct CheckpointOptions {
  // A file with another autoencoder, or two with the halves of a TAESD; none: the model's own.
  std::vector<std::string> vae;
  // Single files alone:
  std::optional<Prediction> prediction;  // none: the family's default, which is v for SD 2.x and epsilon for all others
  bool ema = false;                      // the running averages in place of the weights
  std::string tokenizer;                 // what read_tokenizer() takes
  std::string configs;                   // a diffusers folder with the model's configs; "": they follow from the shapes
};

// A .sdw file, a diffusers folder, or a single-file checkpoint (.safetensors, .ckpt), told apart by content. Throws file_error on
// anything else, and usage_error on options that the file has no use for.
std::unique_ptr<Checkpoint> open_checkpoint(const std::string& path, const CheckpointOptions& options = {});

// True where the path is a single-file checkpoint by its first bytes: one that has to be converted to be read fast.
bool is_single_file(const std::string& path);

}  // namespace darkroom

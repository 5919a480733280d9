// The options about a model's file that programs share.
#pragma once

#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace CLI {
class App;
}

namespace darkroom {

struct ModelOptions {
  std::vector<std::string> vae;
  std::string prediction, tokenizer, configs;
  bool ema = false;
};

// --vae, --prediction, --ema, --tokenizer, --config
void declare_model_options(CLI::App& app, ModelOptions& options);

// What they mean for this file. Where it is a single file and no tokenizer is named: what DARKROOM_TOKENIZER says, else the one
// that tools/get_tokenizer.sh leaves in the user's data folder, where it is there. Throws usage_error.
CheckpointOptions checkpoint_options(const ModelOptions& options, const std::string& model);

}  // namespace darkroom

// --lora and --lora-strict, for the programs that open a model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/lora.h"

namespace CLI {
class App;
}

namespace darkroom {

struct LoraOptions {
  std::vector<std::string> files;  // FILE or FILE:WEIGHT
  bool strict = false;

  void declare(CLI::App& app);
  // "name:0.8, other:1": for a picture's parameters and a file's provenance; "" without LoRAs.
  std::string summary() const;
};

// The checkpoint with the LoRAs added, or as it is where there are none. Says on stderr what was applied, unless `quiet`; what was
// not is a warning, or with strict an error. Throws as LoraCheckpoint does.
std::unique_ptr<Checkpoint> add_loras(std::unique_ptr<Checkpoint> checkpoint, const LoraOptions& options, int threads,
                                      bool quiet);

}  // namespace darkroom

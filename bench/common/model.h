// Which models the benchmarks know.
#pragma once

#include <memory>
#include <string>

#include "model/checkpoint.h"

namespace darkroom::bench {

// A .sdw file, a diffusers folder, or the name of a family ("sd15", "sd21", "sdxl") for weights from a rule.
// Throws file_error on anything else.
std::unique_ptr<Checkpoint> open_model(const std::string& model);

}  // namespace darkroom::bench

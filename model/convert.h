// From any checkpoint to a .sdw file.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace darkroom {

// What quantising did to one kind of weights: "unet linear", "vae conv 3x3".
struct QuantisedClass {
  std::string name;
  size_t tensors = 0;
  uint64_t elements = 0, bytes = 0;  // as they are written
  double relative_rms = 0;           // ‖error‖ / ‖weights‖
  double largest = 0;                // of all tensors, the largest error / the tensor's largest weight
};

struct ConvertOptions {
  std::optional<DType> dtype;  // of all tensors; none: as they are stored
  std::string source_name;     // for the file's provenance
  std::string loras = {};      // those that `source` has merged, for the same
  bool q8 = false;             // linear and convolution weights as q8 (runtime/q8.h); then dtype is that of the others
  std::vector<QuantisedClass>* report = nullptr;  // of q8
};

// Writes beside the target and renames. Needs no more memory than a few MiB beside the source's. Throws file_error, leaving
// nothing, on a tensor that is missing, superfluous, of another shape, or that holds a NaN, an infinity, or a number that f16
// cannot hold. False where it was cancelled.
bool convert(const Checkpoint& source, const std::string& path, const ConvertOptions& options,
             const std::function<void(uint64_t done, uint64_t total)>& progress = {},
             const std::atomic<bool>* cancel = nullptr);

}  // namespace darkroom

// From any checkpoint to a .sdw file.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>

#include "model/checkpoint.h"

namespace darkroom {

struct ConvertOptions {
  std::optional<DType> dtype;  // of all tensors; none: as they are stored
  std::string source_name;     // for the file's provenance
};

// Writes beside the target and renames. Needs no more memory than a few MiB beside the source's. Throws file_error, leaving
// nothing, on a tensor that is missing, superfluous, of another shape, or that holds a NaN, an infinity, or a number that f16
// cannot hold. False where it was cancelled.
bool convert(const Checkpoint& source, const std::string& path, const ConvertOptions& options,
             const std::function<void(uint64_t done, uint64_t total)>& progress = {},
             const std::atomic<bool>* cancel = nullptr);

}  // namespace darkroom

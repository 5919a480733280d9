// Single-file checkpoints, converted once: .sdw files in the user's cache folder, named by what they were made from.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "model/checkpoint.h"

namespace darkroom {

struct CacheOptions {
  std::string folder;                         // "": cache_folder()
  uint64_t limit_bytes = uint64_t(20) << 30;  // of all files together; what was not used for longest goes first
  bool quiet = false;                         // no progress
  const std::atomic<bool>* cancel = nullptr;
};

// DARKROOM_CACHE, else darkroom/models in XDG_CACHE_HOME or ~/.cache. Throws usage_error where none of them is set.
std::string cache_folder();

// The converted model: made where it is not there yet, from the content of the file and all that the options name. Two programs
// that start at the same time make it once: the second waits. Says on stderr what was recognised, what is written where, and how
// much of the limit is used. Throws file_error, and resource_error where the limit is too small; nothing where it was cancelled.
std::unique_ptr<Checkpoint> open_cached(const std::string& path, const CheckpointOptions& options,
                                        const CacheOptions& cache);

}  // namespace darkroom

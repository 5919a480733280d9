#include "model/checkpoint.h"

#include <filesystem>

#include "kernels/core/error.h"
#include "model/diffusers_folder.h"
#include "model/sdw_checkpoint.h"

namespace darkroom {

std::string Checkpoint::required_text(std::string_view name) const {
  std::optional<std::string> found = text(name);
  if (!found) throw file_error("{}: has no {}", where(), name);
  return std::move(*found);
}

std::unique_ptr<Checkpoint> open_checkpoint(const std::string& path) {
  if (std::filesystem::is_directory(path)) return std::make_unique<DiffusersFolder>(path);
  if (!std::filesystem::exists(path)) throw file_error("{}: does not exist", path);
  return std::make_unique<SdwCheckpoint>(path);
}

}  // namespace darkroom

#include "model/checkpoint.h"

#include <filesystem>

#include "kernels/core/error.h"
#include "model/diffusers_folder.h"
#include "model/sdw_checkpoint.h"
#include "model/single_file.h"
#include "model/vae_file.h"

namespace darkroom {

std::string Checkpoint::required_text(std::string_view name) const {
  std::optional<std::string> found = text(name);
  if (!found) throw file_error("{}: has no {}", where(), name);
  return std::move(*found);
}

bool is_single_file(const std::string& path) {
  return std::filesystem::is_regular_file(path) && TensorFile::recognises(path);
}

std::unique_ptr<Checkpoint> open_checkpoint(const std::string& path, const CheckpointOptions& options) {
  if (!std::filesystem::exists(path)) throw file_error("{}: does not exist", path);
  std::unique_ptr<Checkpoint> checkpoint;
  const bool single = is_single_file(path);
  if (single)
    checkpoint = std::make_unique<SingleFile>(path, options);
  else if (std::filesystem::is_directory(path))
    checkpoint = std::make_unique<DiffusersFolder>(path);
  else
    checkpoint = std::make_unique<SdwCheckpoint>(path);
  if (!single && (options.prediction || options.ema || !options.tokenizer.empty() || !options.configs.empty()))
    throw usage_error("{}: --prediction, --ema, --tokenizer and --config are for single files; this says it itself",
                      path);
  if (options.vae.empty()) return checkpoint;
  return std::make_unique<WithVae>(std::move(checkpoint), options.vae);
}

}  // namespace darkroom

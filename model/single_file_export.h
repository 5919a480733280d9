// From any checkpoint to one file in LDM's layout, for programs that want that: the way back of model/single_file.h.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace darkroom {

// A tensor of such a file: ours (COMPONENT "/" NAME) that lie in it, one below the other; none: zeros.
struct LdmTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<std::string> ours;
  bool transposed = false;
};

// By the checkpoint's configs. Throws file_error where no family with a layout of one file has such text encoders.
std::vector<LdmTensor> ldm_layout(const Checkpoint& source);

// `path` ends with .safetensors, or with .ckpt: then as torch.save() writes it. Names and order of dimensions as the published
// checkpoints have them: fused q, k, v in OpenCLIP, 1×1 convolutions in the autoencoder's attention, 24 layers in SD 2.x's OpenCLIP-H
// of which the last is never read and zero here. dtype none: as stored. Throws file_error. False where it was cancelled.
bool export_single_file(const Checkpoint& source, const std::string& path, std::optional<DType> dtype,
                        const std::function<void(uint64_t done, uint64_t total)>& progress = {},
                        const std::atomic<bool>* cancel = nullptr);

}  // namespace darkroom

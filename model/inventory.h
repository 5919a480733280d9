// Which tensors a model's networks want, and in which order they want them.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/shape.h"
#include "model/checkpoint.h"
#include "model/configs.h"

namespace darkroom {

struct InventoryEntry {
  std::string component, name;  // name within the component
  Shape shape;
  std::string full() const { return component + "/" + name; }
};

// By the configurations in the checkpoint: text encoders, UNet, autoencoder (decoder, then encoder), each in the order in which
// its plan uses them. Throws file_error where a configuration is missing or not implemented.
// A checkpoint may have no autoencoder.
std::vector<InventoryEntry> model_inventory(const Checkpoint& checkpoint);
std::vector<InventoryEntry> vae_inventory(const VaeConfig& config);

// Throws file_error naming a tensor that is missing, has another shape, or that no network reads.
void check_inventory(const Checkpoint& checkpoint, const std::vector<InventoryEntry>& inventory);

}  // namespace darkroom

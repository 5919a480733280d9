// The networks of a model as graphs, for those who want its layers: benchmarks, kernel tests.
#pragma once

#include <string>
#include <vector>

#include "kernels/core/cpu.h"
#include "model/checkpoint.h"
#include "runtime/graph.h"

namespace darkroom {

struct NetworkGraphOptions {
  int64_t batch = 2;           // of the UNet and the text encoders; the autoencoder has 1
  int64_t unet_size = 0;       // side in latent pixels; 0: native
  int64_t vae_size = 0;        // the autoencoder's, in latent pixels; 0: native
  DType dtype = DType::f32;    // of activations
  DType weights = DType::f16;  // of weights of rank 2 and more; vectors are f32
  Isa isa = active_isa();      // what the kernels that are fused for may use
};

// Text encoders, UNet, autoencoder (decoder, encoder), fused as the pipeline runs them, but for what couples two layers by more than
// a tensor (conv_moments): each is to run alone. The checkpoint is asked for its
// configs alone.
std::vector<Graph> network_graphs(const Checkpoint& checkpoint, const NetworkGraphOptions& options);

// The same of a published family: "sd15", "sd21" or "sdxl". Throws usage_error on another name.
std::vector<Graph> family_graphs(const std::string& family, const NetworkGraphOptions& options);

}  // namespace darkroom

// AutoencoderKL, both ways, as graphs. Source: Rombach et al. (2022), with KL regularisation. A config that is tiny() makes the graphs
// of model/taesd.h, whose inputs and outputs have other ranges.
#pragma once

#include "model/configs.h"
#include "runtime/graph.h"

namespace darkroom {

struct VaeGraphOptions {
  int64_t batch = 1;
  int64_t height = 64, width = 64;  // decoder: latent pixels; encoder: picture pixels
  DType dtype = DType::f32;
};

// Input "z" [B, H, W, latent_channels] f32, already divided by the scaling factor; output "image" [B, f·H, f·W, 3] f32,
// about −1 … 1. Weights "vae/decoder.…", "vae/post_quant_conv.…".
Graph build_vae_decoder(const VaeConfig& config, const VaeGraphOptions& options);

// Input "image" [B, H, W, 3] f32, −1 … 1; output "moments" [B, H/f, W/f, 2·latent_channels] f32: the mean, then the log
// variance, which callers clamp to −30 … 20. Weights "vae/encoder.…", "vae/quant_conv.…".
Graph build_vae_encoder(const VaeConfig& config, const VaeGraphOptions& options);

}  // namespace darkroom

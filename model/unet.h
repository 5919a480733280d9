// The denoising UNet of SD 1.x, 2.x and XL (UNet2DConditionModel) as a graph.
// Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models (2022); Podell et al., SDXL (2023).
#pragma once

#include "model/configs.h"
#include "runtime/graph.h"

namespace darkroom {

// Inputs    "sample"    [B, H, W, in_channels] f32, the (scaled) latents
//           "timestep"  [B] f32, may be fractional
//           "context"   [B, tokens, cross_attention_dim] f32
//           text_time:  "text_embeds" [B, P] f32, "time_ids" [B, ids] f32
//           time_cond_proj_dim: "timestep_cond" [B, time_cond_proj_dim] f32
// Outputs   "noise_pred" [B, H, W, out_channels] f32: epsilon or v, as the model was trained
// The whole network is one graph; hoisting (runtime/hoist.h) moves what depends on the context or on the time alone out
// of the loop.
struct UNetGraphOptions {
  int64_t batch = 2;
  int64_t height = 64, width = 64;  // latent pixels; any size, also odd
  int64_t tokens = 77;
  DType dtype = DType::f32;
  bool int8 = false;  // products of int8 where they are worth it: runtime/quantize.h
};

// Weights are named "unet/…" as in diffusers. Throws usage_error where the options do not fit the config.
Graph build_unet(const UNetConfig& config, const UNetGraphOptions& options);

}  // namespace darkroom

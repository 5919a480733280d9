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
//
// Deep features (reuse of what changes slowly from step to step): what the last resnet on the way up reads from below. `expose`
// makes it the output "deep_features" [B, H, W, C]; `reuse` makes it an input, and all that computes it is gone.
// Source: Ma, Fang, Wang, DeepCache: Accelerating Diffusion Models for Free (2024).
enum class DeepFeatures : uint8_t { compute, expose, reuse };

struct UNetGraphOptions {
  int64_t batch = 2;
  int64_t height = 64, width = 64;  // latent pixels; any size, also odd
  int64_t tokens = 77;
  DType dtype = DType::f32;
  bool int8 = false;  // products of int8 where they are worth it: runtime/quantize.h
  // Guidance: all samples have the same latents and time. "sample" is [1, ..], and "timestep" [1] where the time embedding
  // depends on nothing else.
  bool shared_sample = false;
  DeepFeatures deep_features = DeepFeatures::compute;

  bool operator==(const UNetGraphOptions&) const = default;
};

// text_time: how many numbers "time_ids" has. 6: original height and width, crop top and left, target height and width. 5, in the
// refiner: an aesthetic score in place of the target size.
int64_t time_id_count(const UNetConfig& config);

// Rows of the input "timestep": 1, or the batch.
int64_t timestep_rows(const UNetConfig& config, const UNetGraphOptions& options);

// Weights are named "unet/…" as in diffusers. Throws usage_error where the options do not fit the config.
Graph build_unet(const UNetConfig& config, const UNetGraphOptions& options);

}  // namespace darkroom

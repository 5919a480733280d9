// TAESD (AutoencoderTiny), both ways, as graphs: convolutions and ReLU alone, 70 GMAC for a decoded 512×512 picture where
// AutoencoderKL takes 1240. It makes and reads the same latents, with less detail. Source: madebyollin, "Tiny AutoEncoder for Stable Diffusion" (2023).
//
// Layers are numbered through as they run, those without weights too: "vae/decoder.layers.3.conv.0.weight".
#pragma once

#include "model/vae.h"

namespace darkroom {

// Input "z" [B, H, W, latent_channels] f32, what clamp_taesd_latent() makes of each number; output "image" [B, f·H, f·W, 3] f32, about
// 0 … 1.
Graph build_taesd_decoder(const VaeConfig& config, const VaeGraphOptions& options);

// Input "image" [B, H, W, 3] f32, 0 … 1; output "latents" [B, H/f, W/f, latent_channels] f32. They are the latents themselves: there
// is no distribution to draw from. Throws usage_error where the config has no encoder.
Graph build_taesd_encoder(const VaeConfig& config, const VaeGraphOptions& options);

// The decoder's first layer, 3 · tanh(x / 3): computed by callers, who touch each latent anyway.
float clamp_taesd_latent(float x);

}  // namespace darkroom

// The names that single-file checkpoints give to tensors (CompVis' LDM, Stability's SGM, OpenCLIP), made from a config.
//
// Each function takes a name of the diffusers layout, a tensor's or a module's, without its component, and returns what the other
// layout calls it, without the prefix of its network; "" where it has none. Tables: ldm_names.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/configs.h"

namespace darkroom {

// One module's name in two layouts: diffusers, and the other.
struct NamePair {
  std::string diffusers, other;
};

class NameMap {
 public:
  // `modules`: the longest that a name begins with is replaced. `leaves`: what then follows, within resnets and attentions.
  NameMap(std::vector<NamePair> modules, std::vector<NamePair> leaves);

  // "down_blocks.0.resnets.0.conv1.weight" → "input_blocks.1.0.in_layers.2.weight"
  std::string operator()(std::string_view diffusers) const;

 private:
  std::vector<NamePair> modules_, leaves_;  // longest first
};

// UNet: input_blocks.N, middle_block.N, output_blocks.N. Prefix "model.diffusion_model.".
NameMap ldm_unet_names(const UNetConfig& config);
// Autoencoder: encoder.down.N.block.N, decoder.up.N.block.N. Prefix "first_stage_model.". Its attention is q, k, v, proj_out.
NameMap ldm_vae_names(const VaeConfig& config);
// OpenCLIP's text encoder: transformer.resblocks.N. q_proj, k_proj and v_proj are rows of one attn.in_proj, in that order;
// text_projection is transposed.
NameMap openclip_names(const ClipTextConfig& config);

}  // namespace darkroom

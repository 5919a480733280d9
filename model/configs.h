// What a checkpoint's config files say, as plain data. Names are those of the diffusers and transformers config keys.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/epilogue.h"

namespace darkroom {

// CLIPTextModel and CLIPTextModelWithProjection: CLIP-L, OpenCLIP-H, OpenCLIP-bigG.
struct ClipTextConfig {
  int64_t vocab_size = 49408;
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;
  int64_t num_attention_heads = 12;
  int64_t num_hidden_layers = 12;
  int64_t max_position_embeddings = 77;
  int64_t projection_dim = 512;  // rows of text_projection, where there is one
  bool with_projection = false;  // CLIPTextModelWithProjection
  Activation hidden_act = Activation::quick_gelu;
  float layer_norm_eps = 1e-5f;
  int64_t eos_token_id = 2;  // 2 (old configs): pooled at argmax(ids); else at the first eos_token_id
};

// UNet2DConditionModel.
struct UNetConfig {
  int64_t sample_size = 64;  // latent pixels of the native picture
  int64_t in_channels = 4;   // 9 for inpainting
  int64_t out_channels = 4;
  std::vector<int64_t> block_out_channels = {320, 640, 1280, 1280};
  std::vector<bool> down_attention = {true, true, true, false};  // CrossAttnDownBlock2D per level, top to bottom
  std::vector<bool> up_attention = {false, true, true, true};    // CrossAttnUpBlock2D per level, bottom to top
  bool mid_attention = true;
  std::vector<int64_t> layers_per_block = {2, 2, 2, 2};
  std::vector<int64_t> num_attention_heads = {8, 8, 8, 8};           // per level
  std::vector<int64_t> transformer_layers_per_block = {1, 1, 1, 1};  // per level; the middle has the last level's
  int64_t cross_attention_dim = 768;
  bool use_linear_projection = false;
  int64_t norm_num_groups = 32;
  float norm_eps = 1e-5f;
  bool flip_sin_to_cos = true;
  float freq_shift = 0.0f;
  // addition_embed_type "text_time" (XL): the added embedding's sinusoids and the width that they and the pooled text make.
  bool text_time = false;
  int64_t addition_time_embed_dim = 256;
  int64_t projection_class_embeddings_input_dim = 2816;
  int64_t time_cond_proj_dim = 0;  // LCM's guidance embedding; 0: none
};

// AutoencoderKL, or AutoencoderTiny (TAESD): see tiny().
struct VaeConfig {
  int64_t sample_size = 512;
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  int64_t latent_channels = 4;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 512};
  int64_t layers_per_block = 2;
  int64_t norm_num_groups = 32;
  float scaling_factor = 0.18215f;
  bool use_quant_conv = true;
  bool use_post_quant_conv = true;
  bool mid_block_add_attention = true;
  bool force_upcast = false;
  // AutoencoderTiny alone: residual blocks a level, in the order in which they run. No encoder blocks: there is no encoder.
  std::vector<int64_t> num_encoder_blocks = {}, num_decoder_blocks = {};

  bool tiny() const { return !num_decoder_blocks.empty(); }
  bool has_encoder() const { return !tiny() || !num_encoder_blocks.empty(); }
  // Pixels of the picture for each pixel of the latent, in each direction.
  int64_t factor() const { return int64_t(1) << (block_out_channels.size() - 1); }
};

// generation_config.json, a file of ours beside model_index.json: what a model was made to be run with, by the names of the
// arguments of diffusers' pipelines. Without it: what suits Stable Diffusion.
struct GenerationConfig {
  int64_t num_inference_steps = 20;
  float guidance_scale = 7.0f;
};

// Parse the JSON text of a config file. `where` names the file in errors. Throw file_error, naming the key, on a missing or
// malformed value and on any setting that this engine does not implement; nothing is ignored silently.
ClipTextConfig parse_clip_text_config(std::string_view json, std::string_view where);
UNetConfig parse_unet_config(std::string_view json, std::string_view where);
VaeConfig parse_vae_config(std::string_view json, std::string_view where);
GenerationConfig parse_generation_config(std::string_view json, std::string_view where);

}  // namespace darkroom

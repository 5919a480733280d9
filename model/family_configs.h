// The published configurations of three families, as their checkpoints have them.
#pragma once

namespace darkroom {

struct FamilyText {
  const char *family, *name, *text;
};

inline constexpr FamilyText kFamilyTexts[] = {
    {"sd15", "text_encoder/config.json",
     R"({"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "bos_token_id": 0, "eos_token_id": 2, )"
     R"("pad_token_id": 1, "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, )"
     R"("num_attention_heads": 12, "num_hidden_layers": 12, "max_position_embeddings": 77, "layer_norm_eps": 1e-05, )"
     R"("projection_dim": 768, "vocab_size": 49408})"},
    {"sd15", "unet/config.json",
     R"({"_class_name": "UNet2DConditionModel", "act_fn": "silu", "center_input_sample": false, "downsample_padding": )"
     R"(1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, )"
     R"("mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "sample_size": 64, )"
     R"("block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 768, "attention_head_dim": 8, )"
     R"("down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"], )"
     R"("up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})"},
    {"sd15", "vae/config.json",
     R"({"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], )"
     R"("down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"], )"
     R"("up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"], )"
     R"("in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, )"
     R"("sample_size": 512, "scaling_factor": 0.18215})"},
    {"sd21", "text_encoder/config.json",
     R"({"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "bos_token_id": 0, "eos_token_id": 2, )"
     R"("pad_token_id": 1, "hidden_act": "gelu", "hidden_size": 1024, "intermediate_size": 4096, )"
     R"("num_attention_heads": 16, "num_hidden_layers": 23, "max_position_embeddings": 77, "layer_norm_eps": 1e-05, )"
     R"("projection_dim": 512, "vocab_size": 49408})"},
    {"sd21", "unet/config.json",
     R"({"_class_name": "UNet2DConditionModel", "act_fn": "silu", "center_input_sample": false, "downsample_padding": )"
     R"(1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, )"
     R"("mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "sample_size": 96, )"
     R"("block_out_channels": [320, 640, 1280, 1280], "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, )"
     R"(20], "use_linear_projection": true, "upcast_attention": true, "dual_cross_attention": false, )"
     R"("only_cross_attention": false, "num_class_embeds": null, "down_block_types": ["CrossAttnDownBlock2D", )"
     R"("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", )"
     R"("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]})"},
    {"sd21", "vae/config.json",
     R"({"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], )"
     R"("down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"], )"
     R"("up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"], )"
     R"("in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, )"
     R"("sample_size": 768, "scaling_factor": 0.18215})"},
    {"sdxl", "text_encoder/config.json",
     R"({"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "bos_token_id": 0, "eos_token_id": 2, )"
     R"("pad_token_id": 1, "hidden_act": "quick_gelu", "hidden_size": 768, "intermediate_size": 3072, )"
     R"("num_attention_heads": 12, "num_hidden_layers": 12, "max_position_embeddings": 77, "layer_norm_eps": 1e-05, )"
     R"("projection_dim": 768, "vocab_size": 49408})"},
    {"sdxl", "text_encoder_2/config.json",
     R"({"architectures": ["CLIPTextModelWithProjection"], "model_type": "clip_text_model", "bos_token_id": 0, )"
     R"("eos_token_id": 2, "pad_token_id": 1, "hidden_act": "gelu", "hidden_size": 1280, "intermediate_size": 5120, )"
     R"("num_attention_heads": 20, "num_hidden_layers": 32, "max_position_embeddings": 77, "layer_norm_eps": 1e-05, )"
     R"("projection_dim": 1280, "vocab_size": 49408})"},
    {"sdxl", "unet/config.json",
     R"({"_class_name": "UNet2DConditionModel", "act_fn": "silu", "center_input_sample": false, "downsample_padding": )"
     R"(1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "out_channels": 4, "layers_per_block": 2, )"
     R"("mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "sample_size": 128, )"
     R"("block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048, "attention_head_dim": [5, 10, 20], )"
     R"("use_linear_projection": true, "transformer_layers_per_block": [1, 2, 10], "addition_embed_type": )"
     R"("text_time", "addition_embed_type_num_heads": 64, "addition_time_embed_dim": 256, )"
     R"("projection_class_embeddings_input_dim": 2816, "upcast_attention": null, "down_block_types": ["DownBlock2D", )"
     R"("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], "up_block_types": ["CrossAttnUpBlock2D", )"
     R"("CrossAttnUpBlock2D", "UpBlock2D"]})"},
    {"sdxl", "vae/config.json",
     R"({"_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [128, 256, 512, 512], )"
     R"("down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"], )"
     R"("up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"], )"
     R"("in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, )"
     R"("sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": true})"},
    {"sd15", "scheduler/scheduler_config.json",
     R"({"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", )"
     R"("num_train_timesteps": 1000, "set_alpha_to_one": false, "steps_offset": 1, "skip_prk_steps": true})"},
    {"sd21", "scheduler/scheduler_config.json",
     R"({"_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", )"
     R"("num_train_timesteps": 1000, "set_alpha_to_one": false, "steps_offset": 1, "prediction_type": "v_prediction"})"},
    {"sdxl", "scheduler/scheduler_config.json",
     R"({"_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": )"
     R"("scaled_linear", "num_train_timesteps": 1000, "steps_offset": 1, "timestep_spacing": "leading", )"
     R"("prediction_type": "epsilon"})"},
};

}  // namespace darkroom

#include "model/ldm_names.h"

#include <fmt/core.h>

#include <algorithm>

namespace darkroom {

namespace {

// Within a resnet: UNet.
const std::vector<NamePair> kUnetLeaves = {
    {"norm1", "in_layers.0"},  {"conv1", "in_layers.2"},  {"time_emb_proj", "emb_layers.1"},
    {"norm2", "out_layers.0"}, {"conv2", "out_layers.3"}, {"conv_shortcut", "skip_connection"},
};
// Within a resnet or an attention: autoencoder.
const std::vector<NamePair> kVaeLeaves = {
    {"conv_shortcut", "nin_shortcut"}, {"group_norm", "norm"}, {"to_q", "q"}, {"to_k", "k"}, {"to_v", "v"},
    {"to_out.0", "proj_out"},
};
// Within a layer of OpenCLIP's transformer.
const std::vector<NamePair> kOpenClipLeaves = {
    {"layer_norm1", "ln_1"},
    {"layer_norm2", "ln_2"},
    {"self_attn.q_proj.weight", "attn.in_proj_weight"},
    {"self_attn.k_proj.weight", "attn.in_proj_weight"},
    {"self_attn.v_proj.weight", "attn.in_proj_weight"},
    {"self_attn.q_proj.bias", "attn.in_proj_bias"},
    {"self_attn.k_proj.bias", "attn.in_proj_bias"},
    {"self_attn.v_proj.bias", "attn.in_proj_bias"},
    {"self_attn.out_proj", "attn.out_proj"},
    {"mlp.fc1", "mlp.c_fc"},
    {"mlp.fc2", "mlp.c_proj"},
};

// True where `name` is `module` or lies in it.
bool within(std::string_view name, std::string_view module) {
  return name.starts_with(module) && (name.size() == module.size() || name[module.size()] == '.');
}

const NamePair* longest(const std::vector<NamePair>& pairs, std::string_view name) {
  const auto found = std::ranges::find_if(pairs, [&](const NamePair& p) { return within(name, p.diffusers); });
  return found == pairs.end() ? nullptr : &*found;
}

}  // namespace

NameMap::NameMap(std::vector<NamePair> modules, std::vector<NamePair> leaves)
    : modules_(std::move(modules)), leaves_(std::move(leaves)) {
  for (std::vector<NamePair>* pairs : {&modules_, &leaves_})
    std::ranges::stable_sort(*pairs, std::ranges::greater(), [](const NamePair& p) { return p.diffusers.size(); });
}

std::string NameMap::operator()(std::string_view name) const {
  const NamePair* module = longest(modules_, name);
  if (!module) return "";
  std::string other = module->other;
  std::string_view rest = name.substr(module->diffusers.size());
  if (rest.empty()) return other;
  const NamePair* leaf = longest(leaves_, rest.substr(1));
  if (!leaf) return other + std::string(rest);
  return other + "." + leaf->other + std::string(rest.substr(1 + leaf->diffusers.size()));
}

NameMap ldm_unet_names(const UNetConfig& config) {
  std::vector<NamePair> modules = {
      {"time_embedding.linear_1", "time_embed.0"},
      {"time_embedding.linear_2", "time_embed.2"},
      {"time_embedding.cond_proj", "time_embed.cond_proj"},
      {"add_embedding.linear_1", "label_emb.0.0"},
      {"add_embedding.linear_2", "label_emb.0.2"},
      {"conv_in", "input_blocks.0.0"},
      {"mid_block.resnets.0", "middle_block.0"},
      {"mid_block.attentions.0", "middle_block.1"},
      {"mid_block.resnets.1", config.mid_attention ? "middle_block.2" : "middle_block.1"},
      {"conv_norm_out", "out.0"},
      {"conv_out", "out.2"},
  };
  const size_t levels = config.block_out_channels.size();
  const auto add = [&](std::string diffusers, std::string other) {
    modules.push_back({std::move(diffusers), std::move(other)});
  };
  // Numbered through: each resnet with the attention behind it, and each downsampler, is one input block.
  size_t block = 1;
  for (size_t level = 0; level < levels; ++level) {
    for (int64_t i = 0; i < config.layers_per_block[level]; ++i, ++block) {
      add(fmt::format("down_blocks.{}.resnets.{}", level, i), fmt::format("input_blocks.{}.0", block));
      if (config.down_attention[level])
        add(fmt::format("down_blocks.{}.attentions.{}", level, i), fmt::format("input_blocks.{}.1", block));
    }
    if (level + 1 < levels)
      add(fmt::format("down_blocks.{}.downsamplers.0.conv", level), fmt::format("input_blocks.{}.0.op", block++));
  }
  // On the way up an upsampler stands behind the last resnet of its level, in the same block.
  block = 0;
  for (size_t index = 0; index < levels; ++index) {
    const bool attention = config.up_attention[index];
    const int64_t layers = config.layers_per_block[levels - 1 - index] + 1;
    for (int64_t i = 0; i < layers; ++i, ++block) {
      add(fmt::format("up_blocks.{}.resnets.{}", index, i), fmt::format("output_blocks.{}.0", block));
      if (attention) add(fmt::format("up_blocks.{}.attentions.{}", index, i), fmt::format("output_blocks.{}.1", block));
    }
    if (index + 1 < levels)
      add(fmt::format("up_blocks.{}.upsamplers.0.conv", index),
          fmt::format("output_blocks.{}.{}.conv", block - 1, attention ? 2 : 1));
  }
  return NameMap(std::move(modules), kUnetLeaves);
}

NameMap ldm_vae_names(const VaeConfig& config) {
  std::vector<NamePair> modules = {{"quant_conv", "quant_conv"}, {"post_quant_conv", "post_quant_conv"}};
  const size_t levels = config.block_out_channels.size();
  for (const std::string half : {"encoder", "decoder"}) {
    const auto add = [&](const std::string& diffusers, const std::string& other) {
      modules.push_back({half + "." + diffusers, half + "." + other});
    };
    add("conv_in", "conv_in");
    add("conv_norm_out", "norm_out");
    add("conv_out", "conv_out");
    add("mid_block.resnets.0", "mid.block_1");
    add("mid_block.attentions.0", "mid.attn_1");
    add("mid_block.resnets.1", "mid.block_2");
    const bool up = half == "decoder";
    for (size_t i = 0; i < levels; ++i) {
      // Diffusers numbers the decoder's levels as they run, from the deepest; LDM as the encoder's, from the widest picture.
      const std::string ours = up ? fmt::format("up_blocks.{}", i) : fmt::format("down_blocks.{}", i);
      const std::string other = up ? fmt::format("up.{}", levels - 1 - i) : fmt::format("down.{}", i);
      for (int64_t r = 0; r < config.layers_per_block + (up ? 1 : 0); ++r)
        add(fmt::format("{}.resnets.{}", ours, r), fmt::format("{}.block.{}", other, r));
      if (up)
        add(ours + ".upsamplers.0.conv", other + ".upsample.conv");
      else
        add(ours + ".downsamplers.0.conv", other + ".downsample.conv");
    }
  }
  return NameMap(std::move(modules), kVaeLeaves);
}

NameMap openclip_names(const ClipTextConfig& config) {
  std::vector<NamePair> modules = {
      {"text_model.embeddings.token_embedding", "token_embedding"},
      {"text_model.embeddings.position_embedding.weight", "positional_embedding"},
      {"text_model.final_layer_norm", "ln_final"},
      {"text_projection.weight", "text_projection"},
  };
  for (int64_t i = 0; i < config.num_hidden_layers; ++i)
    modules.push_back({fmt::format("text_model.encoder.layers.{}", i), fmt::format("transformer.resblocks.{}", i)});
  return NameMap(std::move(modules), kOpenClipLeaves);
}

}  // namespace darkroom

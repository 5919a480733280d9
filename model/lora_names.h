// How LoRA files name the layers of a model, and the parts of a layer.
//
//   kohya          lora_unet_down_blocks_0_attentions_0_proj_in        every dot is an underscore
//                  lora_te_text_model_encoder_layers_0_mlp_fc1         XL: lora_te1_ and lora_te2_
//   kohya, XL      lora_unet_input_blocks_4_1_proj_in                  the block numbers of the original code
//   diffusers      unet.down_blocks.0.attentions.0.proj_in             PEFT: base_model.model. before it, or no "unet."
//                  text_encoder.text_model.encoder.layers.0.mlp.fc1    and text_encoder_2.
//   first version  unet.down_blocks.0.….attn1.processor.to_q, .to_out   also without "unet."; text encoders: self_attn.to_q
//
// A part follows the layer: .lora_down.weight, .lora_A.weight, .lora.down.weight, _lora.down.weight ..., .alpha.
// Nothing of this is a list of layers: the names are made from those of the model at hand.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/ldm_names.h"

namespace darkroom {

// A layer's change is up · down, or with mid between them (the Tucker form of LoCon), times alpha / rank.
enum class LoraPart : uint8_t { down, up, mid, alpha };

struct LoraKey {
  std::string_view layer;  // as the file names it, without "base_model.model."
  LoraPart part;
};

// A tensor's name, taken apart; nothing where it does not end like one of a LoRA.
std::optional<LoraKey> split_lora_key(std::string_view tensor);

// What else a tensor's name says that it belongs to: "LoHa", "LoKr", "DoRA" ...; empty where nothing is known.
std::string_view other_adapter(std::string_view tensor);

// Every name that files give to the layer whose weight is COMPONENT "/" LAYER ".weight". `ldm`: the UNet's names in the
// original code.
std::vector<std::string> lora_layer_names(const NameMap& ldm, std::string_view component, std::string_view layer);

}  // namespace darkroom

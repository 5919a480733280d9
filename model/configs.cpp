#include "model/configs.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/core/error.h"
#include "runtime/json_text.h"

namespace darkroom {

namespace {

using nlohmann::json;

// A value in a message: not more of it than a line can hold.
std::string shown(const json& value) {
  constexpr size_t kMost = 80;
  const std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true);
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

// Reads keys of one config file and remembers which: what nobody asked for and is not known to be harmless is refused.
class ConfigReader {
 public:
  ConfigReader(std::string_view text, std::string_view where) : where_(where) {
    json_ = parse_json(text, where_);
    if (!json_.is_object()) throw file_error("{}: no JSON object", where_);
  }

  // The value, or null where the file does not have the key.
  const json& get(const std::string& key) {
    seen_.insert(key);
    static const json nothing;
    const auto found = json_.find(key);
    return found == json_.end() ? nothing : *found;
  }
  bool has(const std::string& key) { return !get(key).is_null(); }

  Error bad(const std::string& key, const std::string& wants) {
    return file_error("{}: {} is {}; {}", where_, key, shown(get(key)), wants);
  }

  int64_t integer(const std::string& key, int64_t fallback, int64_t low = 1, int64_t high = 1 << 20) {
    const json& v = get(key);
    if (v.is_null()) return fallback;
    if (!v.is_number_integer() || v.get<int64_t>() < low || v.get<int64_t>() > high)
      throw bad(key, fmt::format("wants a whole number from {} to {}", low, high));
    return v.get<int64_t>();
  }
  int64_t required_integer(const std::string& key) {
    if (!has(key)) throw file_error("{}: has no {}", where_, key);
    return integer(key, 0);
  }
  float number(const std::string& key, float fallback) {
    const json& v = get(key);
    if (v.is_null()) return fallback;
    if (!v.is_number() || !std::isfinite(v.get<float>())) throw bad(key, "wants a number");
    return v.get<float>();
  }
  bool boolean(const std::string& key, bool fallback) {
    const json& v = get(key);
    if (v.is_null()) return fallback;
    if (!v.is_boolean()) throw bad(key, "wants true or false");
    return v.get<bool>();
  }
  std::string string(const std::string& key, const std::string& fallback) {
    const json& v = get(key);
    if (v.is_null()) return fallback;
    if (!v.is_string()) throw bad(key, "wants a string");
    return v.get<std::string>();
  }
  // A list of whole numbers; one number stands for `count` equal ones (0: no number may).
  std::vector<int64_t> integers(const std::string& key, std::vector<int64_t> fallback, size_t count) {
    const json& v = get(key);
    if (v.is_null()) return fallback;
    if (v.is_number_integer() && count > 0) return std::vector<int64_t>(count, integer(key, 0));
    const auto fits = [](const json& x) {
      return x.is_number_integer() && x.get<int64_t>() >= 1 && x.get<int64_t>() <= 1 << 20;
    };
    if (!v.is_array() || v.empty() || v.size() > 16 || !std::ranges::all_of(v, fits))
      throw bad(key, "wants a list of 1 to 16 whole numbers");
    if (count > 0 && v.size() != count) throw bad(key, fmt::format("wants {} numbers, one a level", count));
    return v.get<std::vector<int64_t>>();
  }
  std::vector<std::string> strings(const std::string& key, size_t count) {
    const json& v = get(key);
    if (!v.is_array() || v.size() != count || !std::ranges::all_of(v, [](const json& x) { return x.is_string(); }))
      throw bad(key, fmt::format("wants {} names, one a level", count));
    return v.get<std::vector<std::string>>();
  }

  // The setting is only implemented with this value; a missing or null one is taken to have it.
  void only(const std::string& key, const json& value) {
    const json& v = get(key);
    if (v.is_null() || v == value) return;
    throw bad(key, fmt::format("only {} is implemented", value.dump()));
  }
  // Settings that do not change what is computed here.
  void ignore(std::initializer_list<const char*> keys) {
    for (const char* key : keys) seen_.insert(key);
  }
  // To be called last. An unknown setting may be there if it is switched off.
  void finish() {
    for (const auto& [key, value] : json_.items()) {
      if (key.starts_with("_") || seen_.contains(key) || value.is_null() || value == json(false)) continue;
      throw file_error("{}: {} = {} is a setting that is not implemented", where_, key, shown(value));
    }
  }

 private:
  std::string where_;
  json json_;
  std::set<std::string> seen_;
};

}  // namespace

ClipTextConfig parse_clip_text_config(std::string_view text, std::string_view where) {
  ConfigReader r(text, where);
  ClipTextConfig c;
  c.vocab_size = r.required_integer("vocab_size");
  c.hidden_size = r.required_integer("hidden_size");
  c.intermediate_size = r.required_integer("intermediate_size");
  c.num_attention_heads = r.required_integer("num_attention_heads");
  c.num_hidden_layers = r.required_integer("num_hidden_layers");
  c.max_position_embeddings = r.integer("max_position_embeddings", 77);
  c.projection_dim = r.integer("projection_dim", 512);
  c.layer_norm_eps = r.number("layer_norm_eps", 1e-5f);
  c.eos_token_id = r.integer("eos_token_id", 49407, 0);
  const std::string act = r.string("hidden_act", "quick_gelu");
  if (act == "quick_gelu")
    c.hidden_act = Activation::quick_gelu;
  else if (act == "gelu")
    c.hidden_act = Activation::gelu;
  else
    throw r.bad("hidden_act", "quick_gelu and gelu are implemented");
  if (r.has("architectures")) {
    const json& names = r.get("architectures");
    const std::string name =
        names.is_array() && names.size() == 1 && names[0].is_string() ? names[0].get<std::string>() : "";
    if (name != "CLIPTextModel" && name != "CLIPTextModelWithProjection" && name != "CLIPModel")
      throw r.bad("architectures", "CLIPTextModel and CLIPTextModelWithProjection are implemented");
    c.with_projection = name == "CLIPTextModelWithProjection";
  }
  r.only("model_type", "clip_text_model");
  if (c.hidden_size % c.num_attention_heads != 0)
    throw r.bad("num_attention_heads", fmt::format("hidden_size {} is no multiple of it", c.hidden_size));
  r.ignore({"attention_dropout", "dropout", "bos_token_id", "pad_token_id", "initializer_factor", "initializer_range",
            "torch_dtype", "dtype", "transformers_version", "gradient_checkpointing", "use_cache", "return_dict",
            "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "id2label", "label2id", "problem_type",
            "tie_word_embeddings"});
  r.finish();
  return c;
}

UNetConfig parse_unet_config(std::string_view text, std::string_view where) {
  ConfigReader r(text, where);
  UNetConfig c;
  if (r.get("sample_size").is_array()) {
    const std::vector<int64_t> sides = r.integers("sample_size", {}, 2);
    if (sides[0] != sides[1]) throw r.bad("sample_size", "only square native sizes are implemented");
    c.sample_size = sides[0];
  } else {
    c.sample_size = r.integer("sample_size", 64);
  }
  c.in_channels = r.integer("in_channels", 4);
  c.out_channels = r.integer("out_channels", 4);
  c.block_out_channels = r.integers("block_out_channels", {320, 640, 1280, 1280}, 0);
  const size_t levels = c.block_out_channels.size();
  c.layers_per_block = r.integers("layers_per_block", std::vector<int64_t>(levels, 2), levels);
  c.transformer_layers_per_block = r.integers("transformer_layers_per_block", std::vector<int64_t>(levels, 1), levels);
  // diffusers calls the number of heads attention_head_dim; num_attention_heads, where it is given, is what it says.
  const char* heads = r.has("num_attention_heads") ? "num_attention_heads" : "attention_head_dim";
  c.num_attention_heads = r.integers(heads, std::vector<int64_t>(levels, 8), levels);
  r.ignore({"attention_head_dim"});

  const auto attention = [&](const std::string& key, const std::string& with, const std::string& without) {
    std::vector<bool> result;
    for (const std::string& type : r.strings(key, levels)) {
      if (type != with && type != without) throw r.bad(key, fmt::format("{} and {} are implemented", with, without));
      result.push_back(type == with);
    }
    return result;
  };
  c.down_attention = attention("down_block_types", "CrossAttnDownBlock2D", "DownBlock2D");
  c.up_attention = attention("up_block_types", "CrossAttnUpBlock2D", "UpBlock2D");
  const std::string mid = r.string("mid_block_type", "UNetMidBlock2DCrossAttn");
  if (mid != "UNetMidBlock2DCrossAttn" && mid != "UNetMidBlock2D")
    throw r.bad("mid_block_type", "UNetMidBlock2DCrossAttn and UNetMidBlock2D are implemented");
  c.mid_attention = mid == "UNetMidBlock2DCrossAttn";

  c.cross_attention_dim = r.integer("cross_attention_dim", 1280);
  c.use_linear_projection = r.boolean("use_linear_projection", false);
  c.norm_num_groups = r.integer("norm_num_groups", 32);
  c.norm_eps = r.number("norm_eps", 1e-5f);
  c.flip_sin_to_cos = r.boolean("flip_sin_to_cos", true);
  c.freq_shift = r.number("freq_shift", 0.0f);
  if (r.has("addition_embed_type")) {
    r.only("addition_embed_type", "text_time");
    c.text_time = true;
    c.addition_time_embed_dim = r.required_integer("addition_time_embed_dim");
    c.projection_class_embeddings_input_dim = r.required_integer("projection_class_embeddings_input_dim");
    if (c.projection_class_embeddings_input_dim <= 5 * c.addition_time_embed_dim)
      throw r.bad("projection_class_embeddings_input_dim", "has no room for the time ids");
  }
  c.time_cond_proj_dim = r.integer("time_cond_proj_dim", 0);
  for (size_t i = 0; i < levels; ++i) {
    if (c.block_out_channels[i] % c.norm_num_groups != 0)
      throw r.bad("block_out_channels",
                  fmt::format("{} is no multiple of norm_num_groups {}", c.block_out_channels[i], c.norm_num_groups));
    if (c.block_out_channels[i] % c.num_attention_heads[i] != 0)
      throw r.bad(heads, fmt::format("{} channels are no multiple of it", c.block_out_channels[i]));
  }

  r.only("act_fn", "silu");
  r.only("center_input_sample", false);
  r.only("downsample_padding", 1);
  r.only("mid_block_scale_factor", 1);
  r.only("only_cross_attention", false);
  r.only("dual_cross_attention", false);
  r.only("resnet_time_scale_shift", "default");
  r.only("resnet_out_scale_factor", 1.0);
  r.only("time_embedding_type", "positional");
  r.only("conv_in_kernel", 3);
  r.only("conv_out_kernel", 3);
  r.only("attention_type", "default");
  // Attention computes its softmax in f32 anyway; the others belong to embeddings that are absent, or to training.
  r.ignore({"upcast_attention", "addition_embed_type_num_heads", "addition_time_embed_dim",
            "projection_class_embeddings_input_dim", "dropout"});
  r.finish();
  return c;
}

namespace {

VaeConfig parse_tiny_vae_config(ConfigReader& r) {
  VaeConfig c;
  c.in_channels = r.integer("in_channels", 3);
  c.out_channels = r.integer("out_channels", 3);
  c.latent_channels = r.integer("latent_channels", 4);
  c.scaling_factor = r.number("scaling_factor", 1.0f);
  if (!(c.scaling_factor > 0)) throw r.bad("scaling_factor", "wants a number above 0");
  c.num_decoder_blocks = r.integers("num_decoder_blocks", {3, 3, 3, 1}, 0);
  const size_t levels = c.num_decoder_blocks.size();
  if (r.get("num_encoder_blocks") != json::array())
    c.num_encoder_blocks = r.integers("num_encoder_blocks", {1, 3, 3, 3}, levels);
  c.block_out_channels = r.integers("decoder_block_out_channels", std::vector<int64_t>(levels, 64), levels);
  for (const char* key : {"decoder_block_out_channels", "encoder_block_out_channels", "block_out_channels"})
    for (int64_t channels : r.integers(key, c.block_out_channels, levels))
      if (channels != c.block_out_channels[0]) throw r.bad(key, "wants one number of channels on all levels");
  c.force_upcast = r.boolean("force_upcast", false);
  r.only("act_fn", "relu");
  r.only("upsample_fn", "nearest");
  r.only("upsampling_scaling_factor", 2);
  r.only("latent_magnitude", 3);
  r.only("latent_shift", 0.5);
  r.only("shift_factor", 0.0);
  r.finish();
  return c;
}

}  // namespace

VaeConfig parse_vae_config(std::string_view text, std::string_view where) {
  ConfigReader r(text, where);
  if (r.get("_class_name") == "AutoencoderTiny") return parse_tiny_vae_config(r);
  VaeConfig c;
  c.sample_size = r.integer("sample_size", 512);
  c.in_channels = r.integer("in_channels", 3);
  c.out_channels = r.integer("out_channels", 3);
  c.latent_channels = r.integer("latent_channels", 4);
  c.block_out_channels = r.integers("block_out_channels", {}, 0);
  if (c.block_out_channels.empty()) throw file_error("{}: has no block_out_channels", where);
  const size_t levels = c.block_out_channels.size();
  c.layers_per_block = r.integer("layers_per_block", 1);
  c.norm_num_groups = r.integer("norm_num_groups", 32);
  c.scaling_factor = r.number("scaling_factor", 0.18215f);
  if (!(c.scaling_factor > 0)) throw r.bad("scaling_factor", "wants a number above 0");
  c.use_quant_conv = r.boolean("use_quant_conv", true);
  c.use_post_quant_conv = r.boolean("use_post_quant_conv", true);
  c.mid_block_add_attention = r.boolean("mid_block_add_attention", true);
  c.force_upcast = r.boolean("force_upcast", true);
  for (const std::string& type : r.strings("down_block_types", levels))
    if (type != "DownEncoderBlock2D") throw r.bad("down_block_types", "DownEncoderBlock2D is implemented");
  for (const std::string& type : r.strings("up_block_types", levels))
    if (type != "UpDecoderBlock2D") throw r.bad("up_block_types", "UpDecoderBlock2D is implemented");
  for (int64_t channels : c.block_out_channels)
    if (channels % c.norm_num_groups != 0)
      throw r.bad("block_out_channels",
                  fmt::format("{} is no multiple of norm_num_groups {}", channels, c.norm_num_groups));
  r.only("act_fn", "silu");
  r.only("shift_factor", nullptr);
  r.only("latents_mean", nullptr);
  r.only("latents_std", nullptr);
  r.finish();
  return c;
}

GenerationConfig parse_generation_config(std::string_view text, std::string_view where) {
  ConfigReader r(text, where);
  GenerationConfig c;
  c.num_inference_steps = r.integer("num_inference_steps", c.num_inference_steps, 1, 1000);
  c.guidance_scale = r.number("guidance_scale", c.guidance_scale);
  if (!(c.guidance_scale >= 1 && c.guidance_scale <= 100)) throw r.bad("guidance_scale", "wants 1 to 100");
  r.finish();
  return c;
}

}  // namespace darkroom

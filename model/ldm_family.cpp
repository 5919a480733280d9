#include "model/ldm_family.h"

#include <fmt/core.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "model/family_configs.h"

namespace darkroom {

namespace {

using nlohmann::json;

// The tensors of one network, by what stands behind its prefix.
class Network {
 public:
  Network(const TensorFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  std::string full(const std::string& name) const { return prefix_ + name; }
  const StoredTensor* find(const std::string& name) const { return file_.find(prefix_ + name); }
  bool has(const std::string& name) const { return find(name) != nullptr; }
  // A dimension of a tensor that must be there.
  int64_t dim(const std::string& name, size_t i) const {
    const StoredTensor* t = find(name);
    if (!t) throw file_error("{}: has no tensor {}{}", file_.path(), prefix_, name);
    if (i >= t->shape.size())
      throw file_error("{}: {}{} has {} dimensions", file_.path(), prefix_, name, t->shape.size());
    return t->shape[i];
  }
  // How many of pattern.0, pattern.1 ... there are; `leaf` is a tensor that each of them has.
  int64_t count(const std::string& pattern, const std::string& leaf) const {
    int64_t n = 0;
    while (n < 1000 && has(fmt::format("{}.{}.{}", pattern, n, leaf))) ++n;
    return n;
  }

 private:
  const TensorFile& file_;
  std::string prefix_;
};

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string s;
  for (int64_t d : shape) s += fmt::format("{}{}", s.empty() ? "" : "x", d);
  return s;
}

// The UNet's levels as its input blocks tell them. Heads are what the shapes do not tell: 8 of them in SD 1.x, whose transformers
// are entered by a convolution, 64 channels wide in all that came after it, which are entered by a linear layer.
json unet_config(const TensorFile& file, const LdmFamily& family, int64_t sample_size,
                 std::vector<std::string>& evidence) {
  const Network net(file, kLdmUnet);
  struct Level {
    int64_t channels = 0, resnets = 0, depth = 0;
  };
  std::vector<Level> levels(1);
  int64_t context = 0;
  bool linear = false;
  std::string witness;
  const auto see = [&](const std::string& block) -> int64_t {  // the transformer's depth; 0: none
    const int64_t depth = net.count(block + ".transformer_blocks", "attn2.to_k.weight");
    if (depth > 0 && witness.empty()) {
      witness = block + ".transformer_blocks.0.attn2.to_k.weight";
      context = net.dim(witness, 1);
      linear = net.find(block + ".proj_in.weight") && net.find(block + ".proj_in.weight")->shape.size() == 2;
    }
    return depth;
  };
  for (int64_t i = 1; i < 100; ++i) {
    const std::string block = fmt::format("input_blocks.{}", i);
    if (net.has(block + ".0.op.weight")) {
      levels.emplace_back();
    } else if (net.has(block + ".0.in_layers.2.weight")) {
      levels.back().channels = net.dim(block + ".0.in_layers.2.weight", 0);
      levels.back().depth = see(block + ".1");
      ++levels.back().resnets;
    } else {
      break;
    }
  }
  const int64_t middle = see("middle_block.1");
  if (levels.back().resnets == 0 || context == 0 || middle == 0)
    throw file_error("{}: {}input_blocks.* make no UNet with cross-attention", file.path(), kLdmUnet);

  json c = {{"_class_name", "UNet2DConditionModel"},
            {"sample_size", sample_size},
            {"in_channels", net.dim("input_blocks.0.0.weight", 1)},
            {"out_channels", net.dim("out.2.weight", 0)},
            {"cross_attention_dim", context},
            {"use_linear_projection", linear}};
  json down = json::array(), up = json::array(), channels = json::array(), resnets = json::array(),
       depth = json::array(), heads = json::array();
  for (size_t i = 0; i < levels.size(); ++i) {
    const Level& level = levels[i];
    channels.push_back(level.channels);
    resnets.push_back(level.resnets);
    // The middle's transformer has the last level's depth, also where the last level has none of its own.
    depth.push_back(i + 1 == levels.size() ? middle : std::max<int64_t>(level.depth, 1));
    heads.push_back(linear ? std::max<int64_t>(level.channels / 64, 1) : 8);
    down.push_back(level.depth > 0 ? "CrossAttnDownBlock2D" : "DownBlock2D");
    up.insert(up.begin(), level.depth > 0 ? "CrossAttnUpBlock2D" : "UpBlock2D");
  }
  c.update({{"block_out_channels", channels},
            {"layers_per_block", resnets},
            {"transformer_layers_per_block", depth},
            {"attention_head_dim", heads},
            {"down_block_types", down},
            {"up_block_types", up}});
  if (net.has("label_emb.0.0.weight")) {
    if (family.context != 2048 && family.context != 1280)
      throw file_error("{}: {}label_emb: {} models with class labels (unCLIP) are not implemented", file.path(),
                       kLdmUnet, family.name);
    c.update({{"addition_embed_type", "text_time"},
              {"addition_time_embed_dim", 256},
              {"projection_class_embeddings_input_dim", net.dim("label_emb.0.0.weight", 1)}});
  }
  if (net.has("time_embed.cond_proj.weight")) c["time_cond_proj_dim"] = net.dim("time_embed.cond_proj.weight", 1);

  evidence.push_back(
      fmt::format("UNet: {} channels in, {} out (input_blocks.0.0.weight is {}); levels of {}; context {} ({} is {})",
                  c["in_channels"].get<int64_t>(), c["out_channels"].get<int64_t>(),
                  shape_text(net.find("input_blocks.0.0.weight")->shape), channels.dump(), context, witness,
                  shape_text(net.find(witness)->shape)));
  if (c["in_channels"] == 9) evidence.push_back("UNet: 9 channels in: an inpainting model");
  if (c.contains("time_cond_proj_dim")) evidence.push_back("UNet: time_embed.cond_proj: guidance is an input (LCM)");
  return c;
}

json text_config(const TensorFile& file, const LdmTextEncoder& e, std::vector<std::string>& evidence) {
  const Network net(file, e.prefix);
  const bool open = e.layout == TextLayout::openclip;
  const std::string embedding = open ? "token_embedding.weight" : "embeddings.token_embedding.weight",
                    position = open ? "positional_embedding" : "embeddings.position_embedding.weight",
                    layers = open ? "transformer.resblocks" : "encoder.layers";
  const int64_t count = open ? net.count(layers, "ln_1.weight") : net.count(layers, "layer_norm1.weight");
  const int64_t width = net.dim(embedding, 1);
  if (count == 0) throw file_error("{}: {}{} has {} layers", file.path(), e.prefix, layers, count);
  json c = {{"model_type", "clip_text_model"},
            {"architectures", json::array({open && e.layers == 0 ? "CLIPTextModelWithProjection" : "CLIPTextModel"})},
            {"vocab_size", net.dim(embedding, 0)},
            {"hidden_size", width},
            {"intermediate_size", net.dim(layers + (open ? ".0.mlp.c_fc.weight" : ".0.mlp.fc1.weight"), 0)},
            {"num_attention_heads", std::max<int64_t>(width / 64, 1)},
            {"num_hidden_layers", e.layers > 0 ? std::min(count, e.layers) : count},
            {"max_position_embeddings", net.dim(position, 0)},
            {"hidden_act", open ? "gelu" : "quick_gelu"},
            {"projection_dim", open && net.has("text_projection") ? net.dim("text_projection", 1) : width},
            {"eos_token_id", 2}};
  evidence.push_back(fmt::format("{}: {} of {} layers, width {} ({}*)", e.component, open ? "OpenCLIP" : "CLIP", count,
                                 width, e.prefix));
  return c;
}

// model_index.json and scheduler_config.json: what the published models say.
void add_settings(LdmRecognition& r) {
  const LdmFamily& family = *r.family;
  r.texts["model_index.json"] =
      json({{"_class_name", family.zeros_for_no_negative ? "StableDiffusionXLPipeline" : "StableDiffusionPipeline"},
            {"force_zeros_for_empty_prompt", family.zeros_for_no_negative}})
          .dump();
  for (const FamilyText& t : kFamilyTexts)
    if (t.family == std::string_view(family.scheduler) && std::string_view(t.name).starts_with("scheduler/")) {
      json scheduler = json::parse(t.text);
      scheduler["prediction_type"] = r.prediction == Prediction::v ? "v_prediction" : "epsilon";
      r.texts[t.name] = scheduler.dump();
    }
}

void add_configs_of_folder(LdmRecognition& r, const std::string& folder) {
  for (const char* name : {"unet/config.json", "vae/config.json", "text_encoder/config.json",
                           "text_encoder_2/config.json", "scheduler/scheduler_config.json", "model_index.json"})
    if (const std::string file = folder + "/" + name; std::filesystem::is_regular_file(file))
      r.texts[name] = read_text_file(file);
  if (!r.texts.contains("unet/config.json")) throw file_error("{}: has no unet/config.json", folder);
  r.evidence.push_back(fmt::format("configs: those in {}", folder));
}

}  // namespace

const std::vector<LdmFamily>& ldm_families() {
  using enum TextLayout;
  static const std::vector<LdmFamily> all = {
      {.name = "SDXL base",
       .context = 2048,
       .encoders = {{"text_encoder", transformers, "conditioner.embedders.0.transformer.text_model.", 0},
                    {"text_encoder_2", openclip, "conditioner.embedders.1.model.", 0}},
       .scheduler = "sdxl",
       .prediction = Prediction::epsilon,
       .sample_size = 128,
       .other_sample_size = 128,
       .scaling_factor = 0.13025,
       .zeros_for_no_negative = true},
      {.name = "SDXL refiner",
       .context = 1280,
       .encoders = {{"text_encoder_2", openclip, "conditioner.embedders.0.model.", 0}},
       .scheduler = "sdxl",
       .prediction = Prediction::epsilon,
       .sample_size = 128,
       .other_sample_size = 128,
       .scaling_factor = 0.13025,
       .zeros_for_no_negative = false},
      {.name = "SD 2.x",
       .context = 1024,
       .encoders = {{"text_encoder", openclip, "cond_stage_model.model.", 23}},
       .scheduler = "sd21",
       .prediction = Prediction::v,
       .sample_size = 96,
       .other_sample_size = 64,
       .scaling_factor = 0.18215,
       .zeros_for_no_negative = false},
      {.name = "SD 1.x",
       .context = 768,
       .encoders = {{"text_encoder", transformers, "cond_stage_model.transformer.text_model.", 0}},
       .scheduler = "sd15",
       .prediction = Prediction::epsilon,
       .sample_size = 64,
       .other_sample_size = 64,
       .scaling_factor = 0.18215,
       .zeros_for_no_negative = false},
      {.name = "SD 1.x",  // as newer versions of transformers name the text encoder
       .context = 768,
       .encoders = {{"text_encoder", transformers, "cond_stage_model.transformer.", 0}},
       .scheduler = "sd15",
       .prediction = Prediction::epsilon,
       .sample_size = 64,
       .other_sample_size = 64,
       .scaling_factor = 0.18215,
       .zeros_for_no_negative = false},
  };
  return all;
}

std::optional<std::string> recognise_vae(const TensorFile& file, const std::string& prefix, double scaling_factor,
                                         int64_t sample_size) {
  const Network net(file, prefix);
  if (!net.has("decoder.conv_in.weight")) return std::nullopt;
  const bool ldm = net.has("decoder.mid.block_1.norm1.weight");
  const auto resnet = [&](int64_t level) {
    return ldm ? fmt::format("encoder.down.{}.block", level) : fmt::format("encoder.down_blocks.{}.resnets", level);
  };
  json channels = json::array(), down = json::array(), up = json::array();
  const int64_t resnets = net.count(resnet(0), "conv1.weight");
  for (int64_t level = 0; level < 16 && net.has(resnet(level) + ".0.conv1.weight"); ++level) {
    channels.push_back(net.dim(resnet(level) + ".0.conv1.weight", 0));
    down.push_back("DownEncoderBlock2D");
    up.push_back("UpDecoderBlock2D");
  }
  if (channels.empty())
    throw file_error("{}: {}encoder is missing: an autoencoder's decoder alone is of no use", file.path(), prefix);
  return json({{"_class_name", "AutoencoderKL"},
               {"sample_size", sample_size},
               {"in_channels", net.dim("encoder.conv_in.weight", 1)},
               {"out_channels", net.dim("decoder.conv_out.weight", 0)},
               {"latent_channels", net.dim("decoder.conv_in.weight", 1)},
               {"block_out_channels", channels},
               {"layers_per_block", resnets},
               {"down_block_types", down},
               {"up_block_types", up},
               {"use_quant_conv", net.has("quant_conv.weight")},
               {"use_post_quant_conv", net.has("post_quant_conv.weight")},
               {"scaling_factor", scaling_factor},
               {"force_upcast", true}})
      .dump();
}

LdmRecognition recognise_ldm(const TensorFile& file, std::optional<Prediction> prediction, const std::string& configs) {
  const auto has_prefix = [&](const std::string& prefix) {
    const auto at = file.tensors().lower_bound(prefix);
    return at != file.tensors().end() && at->first.starts_with(prefix);
  };
  if (!has_prefix(kLdmUnet))
    throw file_error("{}: holds {} tensors and none of them is {}*: no Stable Diffusion checkpoint of one file",
                     file.path(), file.tensors().size(), kLdmUnet);
  LdmRecognition r;
  for (const LdmFamily& family : ldm_families()) {
    bool all = true;
    for (const LdmTextEncoder& e : family.encoders) all = all && has_prefix(e.prefix);
    if (!all) continue;
    r.family = &family;
    break;
  }
  if (!r.family)
    throw file_error("{}: has a UNet and no text encoder that is known (cond_stage_model.* or conditioner.embedders.*)",
                     file.path());
  const LdmFamily& family = *r.family;

  r.prediction = prediction.value_or(family.prediction);
  std::string why = prediction ? "--prediction" : "the default of " + std::string(family.name);
  if (!prediction && file.find("v_pred")) {
    r.prediction = Prediction::v;
    why = "the file has a tensor v_pred";
  }
  for (const char* key : {"edm_mean", "edm_vpred.sigma_max"})
    if (file.find(key)) throw file_error("{}: has a tensor {}: EDM schedules are not implemented", file.path(), key);
  const int64_t sample = r.prediction == family.prediction ? family.sample_size : family.other_sample_size;

  add_settings(r);
  if (!configs.empty()) {
    add_configs_of_folder(r, configs);
    if (!has_prefix(kLdmVae)) r.texts.erase("vae/config.json");
  } else {
    const json unet = unet_config(file, family, sample, r.evidence);
    if (unet["cross_attention_dim"] != family.context)
      throw file_error(
          "{}: has the text encoders of {} and a UNet for a context of {} (wants {}): no model that is known",
          file.path(), family.name, unet["cross_attention_dim"].get<int64_t>(), family.context);
    r.texts["unet/config.json"] = unet.dump();
    for (const LdmTextEncoder& e : family.encoders)
      r.texts[std::string(e.component) + "/config.json"] = text_config(file, e, r.evidence).dump();
    if (const auto vae = recognise_vae(file, kLdmVae, family.scaling_factor, 8 * sample))
      r.texts["vae/config.json"] = *vae;
  }
  r.evidence.push_back(fmt::format("prediction: {} ({})", r.prediction == Prediction::v ? "v" : "epsilon", why));
  if (configs.empty()) r.evidence.push_back(fmt::format("native size: {0}x{0}", 8 * sample));
  return r;
}

}  // namespace darkroom

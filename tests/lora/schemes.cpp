#include "tests/lora/schemes.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "model/inventory.h"

namespace darkroom::testing {

namespace {

std::string underscores(std::string s) {
  std::ranges::replace(s, '.', '_');
  return s;
}

std::string ending(LoraPart part, const char* down, const char* up) {
  return part == LoraPart::alpha ? ".alpha" : part == LoraPart::down ? down : up;
}

std::string kohya_prefix(const std::string& component, bool xl) {
  return component == "unet"             ? "lora_unet_"
         : component == "text_encoder_2" ? "lora_te2_"
         : xl                            ? "lora_te1_"
                                         : "lora_te_";
}

// tiny-sdxl has one resnet a level on the way down, two on the way up, and attention on the lower two levels.
constexpr std::pair<const char*, const char*> kTinyLdm[] = {
    {"conv_in", "input_blocks.0.0"},
    {"down_blocks.0.resnets.0", "input_blocks.1.0"},
    {"down_blocks.0.downsamplers.0.conv", "input_blocks.2.0.op"},
    {"down_blocks.1.resnets.0", "input_blocks.3.0"},
    {"down_blocks.1.attentions.0", "input_blocks.3.1"},
    {"down_blocks.1.downsamplers.0.conv", "input_blocks.4.0.op"},
    {"down_blocks.2.resnets.0", "input_blocks.5.0"},
    {"down_blocks.2.attentions.0", "input_blocks.5.1"},
    {"mid_block.resnets.0", "middle_block.0"},
    {"mid_block.attentions.0", "middle_block.1"},
    {"mid_block.resnets.1", "middle_block.2"},
    {"up_blocks.0.resnets.0", "output_blocks.0.0"},
    {"up_blocks.0.attentions.0", "output_blocks.0.1"},
    {"up_blocks.0.resnets.1", "output_blocks.1.0"},
    {"up_blocks.0.attentions.1", "output_blocks.1.1"},
    {"up_blocks.0.upsamplers.0.conv", "output_blocks.1.2.conv"},
    {"up_blocks.1.resnets.0", "output_blocks.2.0"},
    {"up_blocks.1.attentions.0", "output_blocks.2.1"},
    {"up_blocks.1.resnets.1", "output_blocks.3.0"},
    {"up_blocks.1.attentions.1", "output_blocks.3.1"},
    {"up_blocks.1.upsamplers.0.conv", "output_blocks.3.2.conv"},
    {"up_blocks.2.resnets.0", "output_blocks.4.0"},
    {"up_blocks.2.resnets.1", "output_blocks.5.0"},
    {"conv_out", "out.2"},
    {"time_embedding.linear_1", "time_embed.0"},
    {"time_embedding.linear_2", "time_embed.2"},
    {"add_embedding.linear_1", "label_emb.0.0"},
    {"add_embedding.linear_2", "label_emb.0.2"},
};
constexpr std::pair<const char*, const char*> kTinyLdmResnet[] = {{"conv1", "in_layers.2"},
                                                                  {"time_emb_proj", "emb_layers.1"},
                                                                  {"conv2", "out_layers.3"},
                                                                  {"conv_shortcut", "skip_connection"}};

std::string tiny_ldm(const std::string& layer) {
  for (const auto& [ours, ldm] : kTinyLdm) {
    if (layer == ours) return ldm;
    if (!layer.starts_with(std::string(ours) + ".")) continue;
    const std::string leaf = layer.substr(std::string(ours).size() + 1);
    for (const auto& [our_leaf, ldm_leaf] : kTinyLdmResnet)
      if (leaf == our_leaf) return std::string(ldm) + "." + ldm_leaf;
    return std::string(ldm) + "." + leaf;
  }
  return "not in the table: " + layer;
}

// "….attn1.to_q" → "….attn1.processor.to_q_lora"; "….self_attn.q_proj" → "….self_attn.to_q_lora"; "" for other layers.
std::string first_diffusers(const std::string& component, const std::string& layer) {
  const size_t dot = layer.rfind(".to_");
  if (component == "unet") {
    if (dot == std::string::npos || layer.find(".attn") == std::string::npos) return "";
    return layer.substr(0, dot) + ".processor" + layer.substr(dot, layer.find('.', dot + 1) - dot) + "_lora";
  }
  for (const auto& [now, before] :
       {std::pair("q_proj", "to_q"), {"k_proj", "to_k"}, {"v_proj", "to_v"}, {"out_proj", "to_out"}})
    if (layer.ends_with(std::string(".self_attn.") + now))
      return layer.substr(0, layer.size() - std::string(now).size()) + before + "_lora";
  return "";
}

}  // namespace

std::vector<NamingScheme> naming_schemes(bool tiny_sdxl) {
  std::vector<NamingScheme> schemes = {
      {"kohya",
       [=](const std::string& component, const std::string& layer, LoraPart part) {
         return kohya_prefix(component, tiny_sdxl) + underscores(layer) +
                ending(part, ".lora_down.weight", ".lora_up.weight");
       },
       true},
      {"PEFT",
       [](const std::string& component, const std::string& layer, LoraPart part) {
         return component + "." + layer + ending(part, ".lora_A.weight", ".lora_B.weight");
       },
       false},
      {"diffusers",
       [](const std::string& component, const std::string& layer, LoraPart part) {
         return component == "unet"
                    ? component + "." + layer + ending(part, ".lora.down.weight", ".lora.up.weight")
                    : component + "." + layer +
                          ending(part, ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight");
       },
       false},
      {"diffusers' first",
       [](const std::string& component, const std::string& layer, LoraPart part) {
         const std::string old = first_diffusers(component, layer);
         const std::string prefix = component == "unet" ? "" : component + ".";
         return old.empty() ? prefix + layer + ending(part, ".lora.down.weight", ".lora.up.weight")
                            : prefix + old + ending(part, ".down.weight", ".up.weight");
       },
       false}};
  if (tiny_sdxl)
    schemes.push_back({"kohya with LDM's blocks",
                       [](const std::string& component, const std::string& layer, LoraPart part) {
                         return kohya_prefix(component, true) +
                                underscores(component == "unet" ? tiny_ldm(layer) : layer) +
                                ending(part, ".lora_down.weight", ".lora_up.weight");
                       },
                       true});
  return schemes;
}

std::vector<LayerChange> random_changes(const Checkpoint& model, uint32_t seed, double amount) {
  constexpr int64_t kRank = 4;
  constexpr float kAlpha = 2;
  std::mt19937 random(seed);
  std::vector<LayerChange> changes;
  for (const InventoryEntry& e : model_inventory(model)) {
    if (e.component == "vae" || e.shape.rank() < 2 || e.name.find("embeddings.") != std::string::npos) continue;
    LayerChange c{e.component, e.name.substr(0, e.name.rfind('.')), e.shape, kRank, kAlpha, {}, {}};
    const WeightView w = model.find(e.full());
    std::vector<float> values(size_t(e.shape.elements()));
    read_elements(w.dtype, w.data, 0, e.shape.elements(), values.data());
    double squares = 0;
    for (float x : values) squares += double(x) * x;
    // Factors k/64 · s have a mean square of s²/3; a sum of kRank products then one of kRank · s⁴/9.
    const double rms = std::sqrt(squares / double(values.size()));
    const double wanted = amount * rms / (kAlpha / kRank * std::sqrt(double(kRank)) / 3);
    const double s = std::exp2(std::round(std::log2(std::sqrt(wanted))));
    const auto fill = [&](std::vector<float>& v, int64_t n) {
      for (int64_t i = 0; i < n; ++i) v.push_back(float((int(random() % 129) - 64) / 64.0 * s));
    };
    fill(c.up, e.shape[0] * kRank);
    fill(c.down, e.shape.elements() / e.shape[0] * kRank);
    changes.push_back(std::move(c));
  }
  return changes;
}

SafetensorsWriter lora_file(const std::vector<LayerChange>& changes, const NamingScheme& scheme, DType dtype) {
  SafetensorsWriter file;
  for (const LayerChange& c : changes) {
    const auto name = [&](LoraPart part) { return scheme.name(c.component, c.layer, part); };
    const bool conv = c.weight.rank() == 4;
    const int64_t O = c.weight[0], I = c.weight[1], R = c.rank;
    std::vector<float> up = c.up;
    if (scheme.has_alpha)
      file.add(name(LoraPart::alpha), dtype, {}, std::vector<float>{c.alpha});
    else
      for (float& x : up) x *= c.alpha / float(R);
    file.add(name(LoraPart::up), dtype, conv ? Shape{O, R, 1, 1} : Shape{O, R}, up);
    file.add(name(LoraPart::down), dtype, conv ? Shape{R, I, c.weight[2], c.weight[3]} : Shape{R, I}, c.down);
  }
  return file;
}

void merge_in_double(const LayerChange& c, double weight, std::vector<double>& values,
                     std::vector<double>& magnitudes) {
  const int64_t O = c.weight[0], K = c.weight.elements() / O, R = c.rank;
  const double scale = weight * double(c.alpha) / double(R);
  for (int64_t o = 0; o < O; ++o)
    for (int64_t k = 0; k < K; ++k)
      for (int64_t r = 0; r < R; ++r) {
        const double term = scale * double(c.up[size_t(o * R + r)]) * double(c.down[size_t(r * K + k)]);
        values[size_t(o * K + k)] += term;
        magnitudes[size_t(o * K + k)] += std::abs(term) * double(R + 2);
      }
}

}  // namespace darkroom::testing

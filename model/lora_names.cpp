#include "model/lora_names.h"

#include <algorithm>

namespace darkroom {

namespace {

struct Suffix {
  std::string_view text;
  LoraPart part;
};
constexpr Suffix kSuffixes[] = {
    {".lora_down.weight", LoraPart::down},
    {".lora_up.weight", LoraPart::up},
    {".lora_mid.weight", LoraPart::mid},
    {".alpha", LoraPart::alpha},
    {".lora_A.weight", LoraPart::down},
    {".lora_B.weight", LoraPart::up},
    {".lora_A.default.weight", LoraPart::down},
    {".lora_B.default.weight", LoraPart::up},
    {".lora.down.weight", LoraPart::down},
    {".lora.up.weight", LoraPart::up},
    {"_lora.down.weight", LoraPart::down},
    {"_lora.up.weight", LoraPart::up},
    {".lora_linear_layer.down.weight", LoraPart::down},
    {".lora_linear_layer.up.weight", LoraPart::up},
};

// What the tensors of other kinds of adapters have in their names.
struct Marker {
  std::string_view text, adapter;
};
constexpr Marker kMarkers[] = {
    {".hada_", "LoHa"},
    {".lokr_", "LoKr"},
    {".dora_scale", "DoRA"},
    {".lora_magnitude_vector", "DoRA"},
    {".oft_", "OFT"},
    {".boft_", "BOFT"},
    {".on_input", "(IA)^3"},
    {".a1.weight", "GLoRA"},
    {".a2.weight", "GLoRA"},
    {".b1.weight", "GLoRA"},
    {".b2.weight", "GLoRA"},
    {".w_norm", "set of norm weights"},
    {".b_norm", "set of norm weights"},
    {"bundle_emb.", "bundle with textual inversions"},
};

std::string flat(std::string_view name) {
  std::string s(name);
  std::ranges::replace(s, '.', '_');
  return s;
}

// The first occurrence replaced; nothing where there is none.
std::optional<std::string> replaced(std::string_view name, std::string_view from, std::string_view to) {
  const size_t at = name.find(from);
  if (at == std::string_view::npos) return std::nullopt;
  std::string s(name);
  return s.replace(at, from.size(), to);
}

}  // namespace

std::optional<LoraKey> split_lora_key(std::string_view tensor) {
  constexpr std::string_view kPeft = "base_model.model.";
  for (const Suffix& s : kSuffixes) {
    if (!tensor.ends_with(s.text)) continue;
    tensor.remove_suffix(s.text.size());
    if (tensor.starts_with(kPeft)) tensor.remove_prefix(kPeft.size());
    if (tensor.empty()) return std::nullopt;
    return LoraKey{tensor, s.part};
  }
  return std::nullopt;
}

std::string_view other_adapter(std::string_view tensor) {
  for (const Marker& m : kMarkers)
    if (tensor.find(m.text) != std::string_view::npos) return m.adapter;
  if (tensor.ends_with(".diff") || tensor.ends_with(".diff_b")) return "set of whole differences";
  return {};
}

std::vector<std::string> lora_layer_names(const NameMap& ldm, std::string_view component, std::string_view layer) {
  const std::string name(layer);
  if (component == "unet") {
    std::vector<std::string> names = {"lora_unet_" + flat(layer), "lora_unet_" + flat(ldm(layer)), "unet." + name,
                                      name};
    for (const std::string_view attention : {".attn1.", ".attn2."}) {
      std::optional<std::string> old = replaced(layer, attention, std::string(attention) + "processor.");
      if (!old) continue;
      if (old->ends_with(".to_out.0")) old->resize(old->size() - 2);
      names.insert(names.end(), {"unet." + *old, *old});
    }
    return names;
  }
  const std::string prefix = std::string(component) + ".";
  std::vector<std::string> names = {prefix + name};
  for (const auto& [now, before] : {std::pair(".q_proj", ".to_q"), std::pair(".k_proj", ".to_k"),
                                    std::pair(".v_proj", ".to_v"), std::pair(".out_proj", ".to_out")})
    if (const std::optional<std::string> old = replaced(layer, now, before)) names.push_back(prefix + *old);
  if (component == "text_encoder") names.insert(names.end(), {"lora_te_" + flat(layer), "lora_te1_" + flat(layer)});
  if (component == "text_encoder_2") names.push_back("lora_te2_" + flat(layer));
  return names;
}

}  // namespace darkroom

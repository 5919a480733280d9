#include "model/synthetic.h"

#include <fmt/core.h>

#include <cmath>

#include "kernels/core/error.h"
#include "model/family_configs.h"

namespace darkroom {

namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// The factor of k, and what is added.
struct Rule {
  double scale, offset;
};
Rule rule_of(std::string_view name, const Shape& shape) {
  if (shape.rank() == 1)
    return contains(name, "norm") && name.ends_with("weight") ? Rule{1.0 / 1024, 1.0} : Rule{1.0 / 4096, 0.0};
  if (contains(name, "embedding") && !contains(name, "time") && !contains(name, "add_")) return {1.0 / 2048, 0.0};
  const double fan_in = double(shape.elements()) / double(shape[0]);
  int e = int(std::ceil(std::log2(std::sqrt(fan_in) * 75)));
  for (const char* closing : {".to_out.", ".out_proj.", ".fc2.", ".ff.net.2.", ".conv2."})
    if (contains(name, closing)) {
      ++e;
      break;
    }
  return {std::ldexp(1.0, -e), 0.0};
}

}  // namespace

void synthetic_integers(std::string_view name, int64_t first, int64_t count, int32_t* out) {
  uint64_t h = 0xcbf29ce484222325u;
  for (char c : name) h = (h ^ uint8_t(c)) * 0x100000001b3u;
  for (int64_t i = 0; i < count; ++i) {
    uint64_t z = h + uint64_t(first + i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    out[i] = int32_t(z >> 56) - 128;
  }
}

SyntheticCheckpoint::SyntheticCheckpoint(const std::string& family) : family_(family) {
  for (const FamilyText& t : kFamilyTexts)
    if (family == t.family) texts_.emplace(t.name, t.text);
  if (texts_.empty()) throw usage_error("--synthetic {}: there are sd15, sd21 and sdxl", family);
  // A vocabulary without merges: every byte is a token.
  texts_.emplace("tokenizer/merges.txt", "#version: 0.2\n");
  const bool xl = has_component("text_encoder_2");
  if (xl) texts_.emplace("tokenizer_2/merges.txt", "#version: 0.2\n");
  // As the published models: OpenCLIP's encoders pad with "!", XL takes zeros for no negative prompt.
  if (family != "sd15")
    texts_.emplace(xl ? "tokenizer_2/special_tokens_map.json" : "tokenizer/special_tokens_map.json",
                   "{\"pad_token\": \"!\"}");
  texts_.emplace("model_index.json",
                 fmt::format("{{\"_class_name\": \"synthetic\", \"force_zeros_for_empty_prompt\": {}}}", xl));
  for (InventoryEntry& e : model_inventory(*this)) entries_.emplace(e.full(), e);
}

WeightView SyntheticCheckpoint::find(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return {};
  const InventoryEntry& e = found->second;
  std::vector<float>& values = made_[found->first];
  if (values.empty()) {
    const Rule rule = rule_of(e.name, e.shape);
    values.resize(size_t(e.shape.elements()));
    constexpr int64_t kBlock = 4096;
    int32_t k[kBlock];
    for (int64_t first = 0; first < e.shape.elements(); first += kBlock) {
      const int64_t n = std::min(kBlock, e.shape.elements() - first);
      synthetic_integers(e.name, first, n, k);
      for (int64_t i = 0; i < n; ++i) values[size_t(first + i)] = float(rule.offset + rule.scale * k[i]);
    }
  }
  return {DType::f32, e.shape, reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float)};
}

WeightView SyntheticCheckpoint::describe(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return {};
  const Shape& shape = found->second.shape;
  return {DType::f32, shape, nullptr, size_t(shape.elements()) * sizeof(float)};
}

void SyntheticCheckpoint::release(std::string_view name) const {
  if (const auto found = made_.find(name); found != made_.end()) made_.erase(found);
}

std::optional<std::string> SyntheticCheckpoint::text(std::string_view name) const {
  const auto found = texts_.find(name);
  return found == texts_.end() ? std::nullopt : std::optional<std::string>(found->second);
}

std::vector<std::string> SyntheticCheckpoint::texts() const {
  std::vector<std::string> names;
  for (const auto& [name, text] : texts_) names.push_back(name);
  return names;
}

bool SyntheticCheckpoint::has_component(std::string_view component) const {
  return texts_.contains(std::string(component) + "/config.json");
}

std::vector<std::string> SyntheticCheckpoint::tensors() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

}  // namespace darkroom

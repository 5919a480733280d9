#include "model/lora_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/weight_source.h"

namespace darkroom {

namespace {

int64_t dim(const StoredTensor& e, size_t i) { return i < e.shape.size() ? e.shape[i] : 1; }

// What PEFT wrote into the file's metadata about itself: numbers by "unet.lora_alpha", "unet.use_rslora" ...
class PeftMetadata {
 public:
  PeftMetadata(const TensorFile& file) {
    const auto text = file.metadata().find("lora_adapter_metadata");
    if (text == file.metadata().end()) return;
    json_ = nlohmann::json::parse(text->second, nullptr, /*allow_exceptions=*/false);
    if (!json_.is_object()) throw file_error("{}: its lora_adapter_metadata is no JSON object", file.path());
    for (const auto& [key, value] : json_.items())
      if (key.ends_with(".use_dora") && value == true)
        throw file_error("{}: is a DoRA, by its metadata; LoRA and LoCon are implemented", file.path());
  }

  // alpha / rank of a layer. PEFT names a layer COMPONENT "." PATH; a pattern stands for the end of a path.
  double scale(const std::string& layer, int64_t rank) const {
    const size_t dot = layer.find('.');
    if (!json_.is_object() || dot == std::string::npos) return 1;
    const std::string component = layer.substr(0, dot), path = layer.substr(dot);
    const auto alpha = json_.find(component + ".lora_alpha");
    if (alpha == json_.end() || !alpha->is_number()) return 1;
    double value = alpha->get<double>();
    if (const auto patterns = json_.find(component + ".alpha_pattern"); patterns != json_.end())
      for (const auto& [end, own] : patterns->items())
        if (own.is_number() && path.ends_with("." + end)) value = own.get<double>();
    const auto rank_stabilised = json_.find(component + ".use_rslora");
    const bool root = rank_stabilised != json_.end() && *rank_stabilised == true;
    return value / (root ? std::sqrt(double(rank)) : double(rank));
  }

 private:
  nlohmann::json json_;
};

}  // namespace

LoraFile::LoraFile(const std::string& path) : file_(path) {
  std::map<std::string, double, std::less<>> alphas;
  for (const auto& [name, entry] : file_.tensors()) {
    const std::optional<LoraKey> key = split_lora_key(name);
    if (!key) {
      if (const std::string_view other = other_adapter(name); !other.empty())
        throw file_error("{}: {}: the file is a {}; LoRA and LoCon are implemented", path, name, other);
      throw file_error("{}: {} is no part of a LoRA", path, name);
    }
    const std::string layer(key->layer);
    if (key->part == LoraPart::alpha) {
      if (!alphas.emplace(layer, read_scalar(name, entry)).second)
        throw file_error("{}: {} has two alphas", path, layer);
      continue;
    }
    if (entry.dtype != DType::f32 && entry.dtype != DType::f16 && entry.dtype != DType::bf16)
      throw file_error("{}: {} is {}; a LoRA is F32, F16 or BF16", path, name, entry.dtype_text);
    if ((entry.shape.size() != 2 && entry.shape.size() != 4) || std::ranges::count(entry.shape, 0) > 0)
      throw file_error("{}: {}: wants 2 dimensions, or 4 for a convolution, none of them 0", path, name);
    Layer& l = layers_[layer];
    const StoredTensor*& part = key->part == LoraPart::down ? l.down : key->part == LoraPart::up ? l.up : l.mid;
    if (part) throw file_error("{}: {}: this part of {} is there twice", path, name, layer);
    part = &entry;
  }
  if (layers_.empty()) throw file_error("{}: holds no layer of a LoRA", path);
  for (const auto& [name, layer] : layers_) check(name, layer);
  take_scales(alphas);
}

void LoraFile::check(const std::string& name, const Layer& layer) const {
  if (!layer.down || !layer.up)
    throw file_error("{}: {} has no {}", path(), name, layer.down ? "up part" : "down part");
  if (dim(*layer.up, 2) != 1 || dim(*layer.up, 3) != 1)
    throw file_error("{}: {}: the up part is a convolution of more than one pixel", path(), name);
  const int64_t rank = dim(*layer.up, 1);
  if (layer.mid) {
    if (dim(*layer.down, 2) != 1 || dim(*layer.down, 3) != 1 || dim(*layer.mid, 0) != rank ||
        dim(*layer.mid, 1) != dim(*layer.down, 0))
      throw file_error("{}: {}: its down, mid and up parts do not fit together", path(), name);
  } else if (dim(*layer.down, 0) != rank) {
    throw file_error("{}: {}: the down part has rank {}, the up part {}", path(), name, dim(*layer.down, 0), rank);
  }
}

void LoraFile::take_scales(const std::map<std::string, double, std::less<>>& alphas) {
  const PeftMetadata peft(file_);
  for (auto& [name, layer] : layers_) {
    const int64_t rank = dim(*layer.down, 0);
    const auto alpha = alphas.find(name);
    layer.scale = alpha == alphas.end() ? peft.scale(name, rank) : alpha->second / double(rank);
    if (!std::isfinite(layer.scale)) throw file_error("{}: {}: alpha is {}", path(), name, layer.scale * double(rank));
  }
  for (const auto& [name, alpha] : alphas)
    if (!layers_.contains(name)) throw file_error("{}: {} has an alpha and nothing else", path(), name);
}

double LoraFile::read_scalar(const std::string& name, const StoredTensor& entry) const {
  const auto load = [&]<typename T>(T x) {
    std::memcpy(&x, entry.data, sizeof(T));
    return double(x);
  };
  if (std::ranges::all_of(entry.shape, [](int64_t d) { return d == 1; })) {
    if (entry.dtype == DType::f64) return load(double());
    if (entry.dtype == DType::i64) return load(int64_t());
    if (entry.dtype == DType::i32) return load(int32_t());
    if (entry.dtype == DType::f32 || entry.dtype == DType::f16 || entry.dtype == DType::bf16)
      return elements_of(entry)[0];
  }
  throw file_error("{}: {}: wants one number", path(), name);
}

std::vector<float> LoraFile::down(const Layer& layer) const {
  std::vector<float> down = elements_of(*layer.down);
  if (!layer.mid) return down;
  const std::vector<float> mid = elements_of(*layer.mid);
  const int64_t R = dim(*layer.mid, 0), S = dim(*layer.mid, 1), I = dim(*layer.down, 1),
                taps = dim(*layer.mid, 2) * dim(*layer.mid, 3);
  std::vector<float> both(size_t(R * I * taps), 0.0f);
  for (int64_t r = 0; r < R; ++r)
    for (int64_t s = 0; s < S; ++s)
      for (int64_t i = 0; i < I; ++i)
        for (int64_t t = 0; t < taps; ++t)
          both[size_t((r * I + i) * taps + t)] += mid[size_t((r * S + s) * taps + t)] * down[size_t(s * I + i)];
  return both;
}

std::string LoraFile::family() const {
  for (const auto& [name, layer] : layers_) {
    if (name.find("attn2") == std::string::npos || !name.ends_with("to_k")) continue;
    const int64_t width = dim(*layer.down, 1);
    return width == 768 ? "SD 1.x" : width == 1024 ? "SD 2.x" : width == 2048 ? "SD XL" : "";
  }
  return "";
}

}  // namespace darkroom

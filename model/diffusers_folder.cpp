#include "model/diffusers_folder.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "kernels/core/error.h"
#include "runtime/json_text.h"

namespace darkroom {

namespace fs = std::filesystem;

namespace {

constexpr const char* kComponents[] = {"text_encoder", "text_encoder_2", "unet", "vae"};
constexpr const char* kTextFolders[] = {"scheduler",      "tokenizer", "tokenizer_2", "text_encoder",
                                        "text_encoder_2", "unet",      "vae"};
constexpr const char* kTextFiles[] = {"config.json", "scheduler_config.json", "vocab.json",
                                      "merges.txt",  "tokenizer_config.json", "special_tokens_map.json"};

// A file beside its index: what a shard may be called.
bool is_file_name(const nlohmann::json& shard) {
  if (!shard.is_string()) return false;
  const std::string& name = shard.get_ref<const std::string&>();
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\0", 2)) == name.npos;
}

}  // namespace

std::string DiffusersFolder::canonical(std::string_view component, std::string name) {
  if (component != "vae") return name;
  constexpr std::pair<std::string_view, std::string_view> kOld[] = {
      {".query.", ".to_q."}, {".key.", ".to_k."}, {".value.", ".to_v."}, {".proj_attn.", ".to_out.0."}};
  for (const auto& [old_name, new_name] : kOld)
    if (const size_t at = name.find(old_name);
        at != std::string::npos && name.find(".attentions.") != std::string::npos)
      return name.replace(at, old_name.size(), new_name);
  return name;
}

DiffusersFolder::DiffusersFolder(const std::string& path) : path_(path) {
  if (!fs::is_regular_file(path + "/model_index.json"))
    throw file_error("{}: has no model_index.json: no folder in the diffusers layout", path);
  const nlohmann::json index = parse_json(read_text_file(path + "/model_index.json"), path + "/model_index.json");
  if (!index.is_object()) throw file_error("{}/model_index.json: no JSON object", path);
  for (const char* component : kComponents) {
    const auto entry = index.find(component);
    if (entry != index.end() && entry->is_array() && entry->size() == 2 && (*entry)[0].is_null()) continue;
    if (fs::is_directory(path + "/" + component)) open_component(component);
  }
  for (const char* needed : {"text_encoder", "unet", "vae"})
    if (!has_component(needed) && !(std::string_view(needed) == "text_encoder" && has_component("text_encoder_2")))
      throw file_error("{}: has no {}", path, needed);
}

void DiffusersFolder::open_component(const std::string& component) {
  const std::string folder = path_ + "/" + component + "/";
  const std::string stem = component.starts_with("text_encoder") ? "model" : "diffusion_pytorch_model";
  components_.push_back(component);
  for (const std::string variant : {"", ".fp16"}) {
    if (const std::string file = folder + stem + variant + ".safetensors"; fs::exists(file))
      return add_file(component, file);
    for (const std::string& index : {folder + stem + ".safetensors.index" + variant + ".json",
                                     folder + stem + variant + ".safetensors.index.json"}) {
      if (!fs::exists(index)) continue;
      const nlohmann::json json = parse_json(read_text_file(index), index);
      if (!json.contains("weight_map") || !json["weight_map"].is_object())
        throw file_error("{}: has no weight_map", index);
      std::set<std::string> shards;
      for (const auto& [name, shard] : json["weight_map"].items()) {
        if (!is_file_name(shard))
          throw file_error("{}: weight_map: {} lies in {}, which is no file name", index, name, shard.dump());
        shards.insert(shard.get<std::string>());
      }
      for (const std::string& shard : shards) add_file(component, folder + shard);
      for (const auto& [name, shard] : json["weight_map"].items())
        if (!name.ends_with("position_ids") && !tensors_.contains(component + "/" + canonical(component, name)))
          throw file_error("{}: promises {}, which is in none of its files", index, name);
      return;
    }
  }
  if (fs::exists(folder + stem + ".bin"))
    throw file_error("{}{}.bin: pickled weights are not read, as they can run code; save the model as safetensors",
                     folder, stem);
  throw file_error("{}: has no {}.safetensors, no .fp16 variant and no index of shards", folder, stem);
}

void DiffusersFolder::add_file(const std::string& component, const std::string& path) {
  files_.emplace_back(path);
  for (const auto& [name, entry] : files_.back().entries()) {
    if (name.ends_with("position_ids")) continue;  // 0, 1, 2 ...: a buffer of old files
    const std::string full = component + "/" + canonical(component, name);
    if (!tensors_.emplace(full, Located{files_.size() - 1, &entry}).second)
      throw file_error("{}: tensor {} is in another file of the component too", path, name);
    if (entry.dtype != DType::f32 && entry.dtype != DType::f16 && entry.dtype != DType::bf16)
      throw file_error("{}: tensor {} is {}; weights are F32, F16 or BF16", path, name, entry.dtype_text);
    if (entry.shape.empty() || entry.shape.size() > size_t(kMaxRank))
      throw file_error("{}: tensor {} has {} dimensions; weights have 1 to {}", path, name, entry.shape.size(),
                       kMaxRank);
  }
}

WeightView DiffusersFolder::find(std::string_view name) const {
  const WeightView view = describe(name);
  if (view.data) require_finite(view, name, path_);
  return view;
}

WeightView DiffusersFolder::describe(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return {};
  const SafetensorsEntry& entry = *found->second.entry;
  WeightView view{entry.dtype, {}, files_[found->second.file].data(entry), entry.bytes};
  for (int64_t d : entry.shape) view.shape.push_back(d);
  return view;
}

void DiffusersFolder::release(std::string_view name) const {
  if (const auto found = tensors_.find(name); found != tensors_.end())
    files_[found->second.file].release(*found->second.entry);
}

std::optional<std::string> DiffusersFolder::text(std::string_view name) const {
  const std::string file = path_ + "/" + std::string(name);
  if (!fs::is_regular_file(file)) return std::nullopt;
  if (fs::file_size(file) == 0) return "";
  return read_text_file(file);
}

std::vector<std::string> DiffusersFolder::texts() const {
  std::vector<std::string> names = {"model_index.json"};
  if (fs::is_regular_file(path_ + "/generation_config.json")) names.push_back("generation_config.json");
  for (const char* folder : kTextFolders)
    for (const char* file : kTextFiles)
      if (const std::string name = std::string(folder) + "/" + file; fs::is_regular_file(path_ + "/" + name))
        names.push_back(name);
  return names;
}

bool DiffusersFolder::has_component(std::string_view component) const {
  return std::ranges::count(components_, component) > 0;
}

std::vector<std::string> DiffusersFolder::tensors() const {
  std::vector<std::string> names;
  for (const auto& [name, located] : tensors_) names.push_back(name);
  return names;
}

}  // namespace darkroom

#include "model/textual_inversion.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "kernels/core/error.h"
#include "model/configs.h"
#include "runtime/tensor_file.h"

namespace darkroom {

namespace {

// Cuts "FILE:WORD"; a file that has a colon in its name is found as it is.
std::pair<std::string, std::string> split_spec(const std::string& spec) {
  const size_t colon = spec.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(spec)) return {spec, ""};
  if (colon == 0 || colon + 1 == spec.size()) throw usage_error("--embedding {}: wants FILE or FILE:WORD", spec);
  return {spec.substr(0, colon), spec.substr(colon + 1)};
}

LearnedVectors read_vectors(const std::string& path, const std::string& name, const StoredTensor& t) {
  const auto fail = [&](const std::string& what) { return file_error("{}: {} {}", path, name, what); };
  if (t.dtype != DType::f32 && t.dtype != DType::f16 && t.dtype != DType::bf16)
    throw fail("is " + t.dtype_text + "; learned vectors are F32, F16 or BF16");
  if (t.shape.empty() || t.shape.size() > 2 || std::ranges::count(t.shape, 0) > 0)
    throw fail("is no list of vectors: no textual inversion");
  LearnedVectors v{t.shape.size() == 2 ? t.shape[0] : 1, t.shape.back(), elements_of(t)};
  if (!std::ranges::all_of(v.values, [](float x) { return std::isfinite(x); }))
    throw fail("holds a NaN or an infinity");
  return v;
}

}  // namespace

std::string TextualInversion::summary() const {
  std::string s;
  for (const auto& [name, v] : sets)
    s += fmt::format("{}{} vector{} of {}", s.empty() ? "" : ", ", v.count, v.count == 1 ? "" : "s", v.width);
  return s;
}

TextualInversion read_textual_inversion(const std::string& spec) {
  const auto named = split_spec(spec);
  const std::string &path = named.first, &word = named.second;
  const TensorFile file(path);
  TextualInversion t{path, word, {}};
  std::string own_word = std::filesystem::path(path).stem().string();
  const auto& tensors = file.tensors();
  const auto take = [&](const std::string& set, const std::string& name, const StoredTensor& tensor) {
    t.sets[set] = read_vectors(path, name, tensor);
  };
  constexpr std::string_view kParam = "string_to_param.";
  if (file.find("clip_l") || file.find("clip_g")) {
    for (const char* name : {"clip_l", "clip_g"})
      if (const StoredTensor* set = file.find(name)) take(name, name, *set);
  } else if (const StoredTensor* set = file.find("emb_params")) {
    take("", "emb_params", *set);
  } else if (tensors.size() == 1) {
    const auto& [name, only] = *tensors.begin();
    if (!name.starts_with(kParam)) own_word = name;
    take("", name, only);
  } else {
    throw file_error("{}: has neither emb_params nor string_to_param nor clip_l and clip_g: no textual inversion",
                     path);
  }
  for (const auto& [name, set] : t.sets)
    if (set.count != t.sets.begin()->second.count)
      throw file_error("{}: has {} vectors for one text encoder and {} for the other", path,
                       t.sets.begin()->second.count, set.count);
  if (t.word.empty()) t.word = own_word;
  return t;
}

std::vector<LearnedWord> learned_words(std::span<const TextualInversion> inversions, std::string_view component,
                                       int64_t vocab_size, int64_t width) {
  const std::string_view own = component == "text_encoder_2" ? "clip_g" : "clip_l";
  std::vector<LearnedWord> words;
  int64_t next = vocab_size;
  for (const TextualInversion& t : inversions) {
    const auto set = std::ranges::find_if(
        t.sets, [&](const auto& s) { return (s.first.empty() || s.first == own) && s.second.width == width; });
    if (set == t.sets.end())
      throw file_error("{}: {}, and {} wants one of {}: made for another family", t.path, t.summary(), component,
                       width);
    words.push_back({t.word, int32_t(next), &set->second});
    next += set->second.count;
  }
  return words;
}

LearnedCheckpoint::LearnedCheckpoint(std::unique_ptr<Checkpoint> base, std::span<const TextualInversion> inversions)
    : base_(std::move(base)) {
  for (const std::string component : {"text_encoder", "text_encoder_2"}) {
    if (!base_->has_component(component)) continue;
    const std::string config = component + "/config.json";
    const ClipTextConfig c = parse_clip_text_config(base_->required_text(config), base_->where() + ": " + config);
    std::vector<float>& rows = tables_[component + "/text_model.embeddings.token_embedding.weight"].rows;
    for (const LearnedWord& w : learned_words(inversions, component, c.vocab_size, c.hidden_size))
      rows.insert(rows.end(), w.vectors->values.begin(), w.vectors->values.end());
  }
}

WeightView LearnedCheckpoint::describe(std::string_view name) const {
  WeightView view = base_->describe(name);
  const auto table = tables_.find(name);
  if (table == tables_.end() || view.shape.rank() != 2) return view;
  view.shape[0] += int64_t(table->second.rows.size()) / view.shape[1];
  view.bytes = size_t(view.shape.elements()) * dtype_size(view.dtype);
  view.data = nullptr;
  return view;
}

WeightView LearnedCheckpoint::find(std::string_view name) const {
  const auto table = tables_.find(name);
  if (table == tables_.end()) return base_->find(name);
  WeightView view = describe(name);
  std::vector<std::byte>& whole = table->second.whole;
  if (whole.empty()) {
    const WeightView own = base_->find(name);
    const std::vector<float>& rows = table->second.rows;
    whole.resize(view.bytes);
    std::memcpy(whole.data(), own.data, own.bytes);
    write_elements(own.dtype, rows.data(), int64_t(rows.size()), whole.data() + own.bytes);
    base_->release(name);
  }
  view.data = whole.data();
  return view;
}

void LearnedCheckpoint::release(std::string_view name) const {
  if (!tables_.contains(name)) base_->release(name);
}

}  // namespace darkroom

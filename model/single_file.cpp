#include "model/single_file.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/core/error.h"
#include "model/inventory.h"
#include "model/ldm_names.h"
#include "model/tokenizer_file.h"
#include "model/vae_file.h"

namespace darkroom {

namespace {

// Inside of a network's prefix, and no part of it: buffers, training's leftovers, layers that no model reads.
constexpr std::string_view kLeftovers[] = {
    "position_ids",     // 0, 1, 2 ...
    "attn_mask",        // OpenCLIP's causal mask
    "logit_scale",      // of CLIP's training
    "text_projection",  // beside CLIP-L and OpenCLIP-H: SD 1.x and 2.x do not read pooled text
    "text_projection.weight",
};

bool is_leftover(std::string_view name, const LdmRecognition& recognition) {
  for (std::string_view end : kLeftovers)
    if (name.ends_with(end)) return true;
  if (name.starts_with("first_stage_model.loss.") || name.starts_with("first_stage_model.model_ema.")) return true;
  // Layers after the last that is read.
  for (const LdmTextEncoder& e : recognition.family->encoders) {
    const std::string layer = std::string(e.prefix) + "transformer.resblocks.";
    if (e.layers == 0 || !name.starts_with(layer)) continue;
    const ClipTextConfig c =
        parse_clip_text_config(recognition.texts.find(std::string(e.component) + "/config.json")->second, e.component);
    if (std::atoll(name.data() + layer.size()) >= c.num_hidden_layers) return true;
  }
  return false;
}

// LitEma keeps the averages under the weights' names without their dots.
std::string ema_name(std::string_view ldm) {
  std::string name = "model_ema.";
  for (char c : "diffusion_model." + std::string(ldm))
    if (c != '.') name += c;
  return name;
}

WeightView view_of(const StoredTensor& t, const std::string& where, const std::string& name) {
  if (t.shape.empty() || t.shape.size() > size_t(kMaxRank))
    throw file_error("{}: tensor {} has {} dimensions; weights have 1 to {}", where, name, t.shape.size(), kMaxRank);
  WeightView view{t.dtype, {}, t.data, t.bytes};
  for (int64_t d : t.shape) view.shape.push_back(d);
  return view;
}

}  // namespace

SingleFile::SingleFile(const std::string& path, const CheckpointOptions& options)
    : file_(path), recognition_(recognise_ldm(file_, options.prediction, options.configs)), ema_(options.ema) {
  if (!options.vae.empty())
    recognition_.texts.erase("vae/config.json");
  else if (!has_component("vae"))
    throw file_error("{}: has no autoencoder ({}*): name one with --vae FILE", path, kLdmVae);
  locate();
  refuse_what_is_left();
  add_tokenizer(options.tokenizer);
}

// Each text encoder's tokenizer: the same merges. OpenCLIP pads with "!", the entry of id 0; CLIP-L with the end token.
void SingleFile::add_tokenizer(const std::string& tokenizer) {
  if (tokenizer.empty())
    throw file_error(
        "{}: a single file carries no tokenizer: name one with --tokenizer (merges.txt, bpe_simple_vocab_16e6.txt.gz, "
        "a diffusers "
        "tokenizer folder, or the open_clip_torch wheel); tools/get_tokenizer.sh fetches one",
        where());
  const TokenizerTexts texts = read_tokenizer(tokenizer);
  for (const LdmTextEncoder& e : recognition_.family->encoders) {
    const std::string folder = std::string_view(e.component) == "text_encoder" ? "tokenizer/" : "tokenizer_2/";
    recognition_.texts[folder + "merges.txt"] = texts.merges;
    if (texts.vocab) recognition_.texts[folder + "vocab.json"] = *texts.vocab;
    const std::string pad = e.layout == TextLayout::openclip ? "!" : "<|endoftext|>";
    recognition_.texts[folder + "special_tokens_map.json"] = "{\"pad_token\": \"" + pad + "\"}";
  }
}

void SingleFile::take(const std::string& name, const std::string& stored, Source source) {
  source.stored = file_.find(stored);
  if (!source.stored) throw file_error("{}: has no tensor {} ({})", file_.path(), stored, name);
  const StoredTensor& t = *source.stored;
  if (t.dtype != DType::f32 && t.dtype != DType::f16 && t.dtype != DType::bf16)
    throw file_error("{}: tensor {} is {}; weights are F32, F16 or BF16", file_.path(), stored, t.dtype_text);
  view_of(t, file_.path(), stored);
  if (t.shape[0] % source.parts != 0)
    throw file_error("{}: tensor {} has {} rows, no multiple of {}", file_.path(), stored, t.shape[0], source.parts);
  if (source.transposed && t.shape.size() != 2)
    throw file_error("{}: tensor {} has {} dimensions and not 2", file_.path(), stored, t.shape.size());
  sources_.emplace(name, source);
  used_.emplace(stored, name);
}

void SingleFile::locate() {
  const auto config = [&](const std::string& component) {
    return std::pair(required_text(component + "/config.json"), file_.path() + ": " + component);
  };
  const auto unet_text = config("unet");
  const NameMap unet = ldm_unet_names(parse_unet_config(unet_text.first, unet_text.second));
  std::map<std::string, NameMap> openclip;
  std::map<std::string, const LdmTextEncoder*> encoders;
  for (const LdmTextEncoder& e : recognition_.family->encoders) {
    const auto text = config(e.component);
    encoders.emplace(e.component, &e);
    openclip.emplace(e.component, openclip_names(parse_clip_text_config(text.first, text.second)));
  }
  std::optional<VaeNames> vae;
  if (has_component("vae")) {
    const auto text = config("vae");
    vae.emplace(file_, kLdmVae, parse_vae_config(text.first, text.second));
  }

  for (const InventoryEntry& e : model_inventory(*this)) {
    if (e.component == "unet") {
      const std::string name = unet(e.name);
      take(e.full(), ema_ ? ema_name(name) : kLdmUnet + name, {});
    } else if (e.component == "vae") {
      take(e.full(), (*vae)(e.name), {});
    } else if (const LdmTextEncoder& encoder = *encoders.at(e.component); encoder.layout == TextLayout::openclip) {
      Source source;
      for (const auto& [leaf, part] : {std::pair(".q_proj.", 0), {".k_proj.", 1}, {".v_proj.", 2}})
        if (e.name.find(leaf) != std::string::npos) source.part = part, source.parts = 3;
      source.transposed = e.name == "text_projection.weight";
      take(e.full(), encoder.prefix + openclip.at(e.component)(e.name), source);
    } else {
      take(e.full(), encoder.prefix + e.name.substr(std::string_view("text_model.").size()), {});
    }
  }
  if (ema_) recognition_.evidence.push_back("UNet: the running averages (model_ema.*), as asked for");
}

void SingleFile::refuse_what_is_left() const {
  std::vector<std::string> networks;
  if (!ema_) networks.push_back(kLdmUnet);
  if (has_component("vae")) networks.push_back(kLdmVae);
  for (const LdmTextEncoder& e : recognition_.family->encoders) networks.push_back(e.prefix);
  for (const auto& [name, stored] : file_.tensors()) {
    const auto inside = [&n = name](const std::string& prefix) { return n.starts_with(prefix); };
    if (used_.contains(name) || std::ranges::none_of(networks, inside)) continue;
    if (is_leftover(name, recognition_)) continue;
    throw file_error("{}: {} is a tensor that no network of {} reads", file_.path(), name, recognition_.family->name);
  }
}

WeightView SingleFile::describe(std::string_view name) const {
  const auto found = sources_.find(name);
  if (found == sources_.end()) return {};
  const Source& source = found->second;
  WeightView view = view_of(*source.stored, file_.path(), found->first);
  view.shape[0] /= source.parts;
  view.bytes = size_t(view.shape.elements()) * dtype_size(view.dtype);
  view.data = nullptr;
  if (source.transposed) std::swap(view.shape[0], view.shape[1]);
  return view;
}

WeightView SingleFile::find(std::string_view name) const {
  WeightView view = describe(name);
  if (view.dtype == DType::none) return view;
  const Source& source = sources_.find(name)->second;
  const bool as_it_lies = source.stored->strides.empty() && !source.transposed;
  view.data = as_it_lies ? source.stored->data + size_t(source.part) * view.bytes : gathered(name, source, view);
  require_finite(view, name, file_.path());
  return view;
}

// The elements one by one, in the order in which ours has them.
const std::byte* SingleFile::gathered(std::string_view name, const Source& source, const WeightView& view) const {
  std::vector<std::byte>& made = made_[std::string(name)];
  if (!made.empty()) return made.data();
  const StoredTensor& t = *source.stored;
  std::vector<int64_t> strides = t.strides;
  if (strides.empty()) strides = {t.shape[1], 1};
  const size_t size = dtype_size(t.dtype);
  const std::byte* first = t.data + size_t(source.part * (t.shape[0] / source.parts) * strides[0]) * size;
  if (source.transposed) std::swap(strides[0], strides[1]);
  made.resize(view.bytes);
  int64_t n[kMaxRank] = {1, 1, 1, 1}, step[kMaxRank] = {0, 0, 0, 0};
  for (int i = 0; i < view.shape.rank(); ++i) {
    n[kMaxRank - view.shape.rank() + i] = view.shape[i];
    step[kMaxRank - view.shape.rank() + i] = strides[size_t(i)];
  }
  std::byte* to = made.data();
  for (int64_t a = 0; a < n[0]; ++a)
    for (int64_t b = 0; b < n[1]; ++b)
      for (int64_t c = 0; c < n[2]; ++c)
        for (int64_t d = 0; d < n[3]; ++d, to += size)
          std::memcpy(to, first + size_t(a * step[0] + b * step[1] + c * step[2] + d * step[3]) * size, size);
  return made.data();
}

void SingleFile::release(std::string_view name) const {
  if (const auto made = made_.find(name); made != made_.end()) made_.erase(made);
  if (const auto found = sources_.find(name); found != sources_.end()) file_.release(*found->second.stored);
}

std::optional<std::string> SingleFile::text(std::string_view name) const {
  const auto found = recognition_.texts.find(name);
  return found == recognition_.texts.end() ? std::nullopt : std::optional<std::string>(found->second);
}

std::vector<std::string> SingleFile::texts() const {
  std::vector<std::string> names;
  for (const auto& [name, text] : recognition_.texts) names.push_back(name);
  return names;
}

bool SingleFile::has_component(std::string_view component) const {
  return recognition_.texts.contains(std::string(component) + "/config.json");
}

std::vector<std::string> SingleFile::tensors() const {
  std::vector<std::string> names;
  for (const auto& [name, source] : sources_) names.push_back(name);
  return names;
}

std::vector<std::string> SingleFile::evidence() const {
  std::vector<std::string> lines = {
      fmt::format("{}: {}, recognised by its keys and shapes", file_.path(), recognition_.family->name)};
  lines.insert(lines.end(), recognition_.evidence.begin(), recognition_.evidence.end());
  return lines;
}

}  // namespace darkroom

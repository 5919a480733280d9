#include "model/vae_file.h"

#include <set>

#include "kernels/core/error.h"
#include "model/inventory.h"
#include "model/ldm_family.h"
#include "model/taesd_file.h"

namespace darkroom {

namespace {

// The module's name in a file that calls the attention otherwise; "" where it is no part of one.
std::string renamed(const std::string& name, std::initializer_list<NamePair> pairs) {
  for (const NamePair& p : pairs)
    if (const size_t at = name.find(p.diffusers); at != std::string::npos)
      return name.substr(0, at) + p.other + name.substr(at + p.diffusers.size());
  return "";
}

bool is_vae(std::string_view name) { return name.starts_with("vae/"); }

}  // namespace

std::string VaeNames::operator()(const std::string& name) const {
  std::string ldm = prefix_ + ldm_(name);
  const std::string candidates[] = {
      ldm,
      renamed(ldm, {{".q.", ".to_q."}, {".k.", ".to_k."}, {".v.", ".to_v."}, {".proj_out.", ".to_out.0."}}),
      prefix_ + name,
      renamed(prefix_ + name,
              {{".to_q.", ".query."}, {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}}),
  };
  for (const std::string& candidate : candidates)
    if (!candidate.empty() && file_.find(candidate)) return candidate;
  return ldm;
}

WithVae::WithVae(std::unique_ptr<Checkpoint> base, const std::vector<std::string>& paths) : base_(std::move(base)) {
  files_.reserve(paths.size());
  for (const std::string& path : paths) files_.emplace_back(path);
  const UNetConfig unet =
      parse_unet_config(base_->required_text("unet/config.json"), base_->where() + ": unet/config.json");
  const std::optional<TaesdNames> taesd = TaesdNames::find(files_);
  if (files_.size() > 1 && (!taesd || files_.size() > 2))
    throw file_error("{}: --vae takes one file, or the two halves of a TAESD", paths[1]);
  const TensorFile& file = files_[0];
  std::string prefix;
  if (taesd) {
    config_ = taesd->config();
  } else {
    // The scale of the latents is the model's: a file does not say it.
    double scale = unet.text_time ? 0.13025 : 0.18215;
    if (const auto own = base_->text("vae/config.json"))
      if (const VaeConfig c = parse_vae_config(*own, base_->where() + ": vae/config.json"); !c.tiny())
        scale = double(c.scaling_factor);
    for (const char* candidate : {"", kLdmVae, "vae."})
      if (file.find(std::string(candidate) + "decoder.conv_in.weight")) prefix = candidate;
    const auto config = recognise_vae(file, prefix, scale, 8 * unet.sample_size);
    if (!config) throw file_error("{}: is no autoencoder: it has no decoder.conv_in.weight, and no TAESD", file.path());
    config_ = *config;
  }
  const VaeConfig vae = parse_vae_config(config_, file.path());
  if (vae.latent_channels != unet.out_channels)
    throw file_error("{}: has {} latent channels, the model makes {}", file.path(), vae.latent_channels,
                     unet.out_channels);
  const VaeNames names(file, prefix, vae);
  std::set<const StoredTensor*> used;
  for (const InventoryEntry& e : vae_inventory(vae)) {
    const TaesdNames::Place place = taesd ? (*taesd)(e.name) : TaesdNames::Place{&file, names(e.name)};
    take(e.full(), *place.file, place.name);
    used.insert(sources_.at(e.full()).tensor);
  }
  for (const TensorFile& f : files_)
    for (const auto& [name, tensor] : f.tensors())
      if (taesd && !used.contains(&tensor))
        throw file_error("{}: {} is a tensor that no TAESD of SD reads: a variant that is not known", f.path(), name);
}

void WithVae::take(const std::string& name, const TensorFile& file, const std::string& stored) {
  const StoredTensor* t = file.find(stored);
  if (!t) throw file_error("{}: has no tensor {}", file.path(), stored);
  if (t->dtype != DType::f32 && t->dtype != DType::f16 && t->dtype != DType::bf16)
    throw file_error("{}: tensor {} is {}; weights are F32, F16 or BF16", file.path(), stored, t->dtype_text);
  if (!t->strides.empty() || t->shape.empty() || t->shape.size() > size_t(kMaxRank))
    throw file_error("{}: tensor {} does not lie as a weight does (row by row, 1 to {} dimensions)", file.path(),
                     stored, kMaxRank);
  sources_.emplace(name, Source{&file, t});
}

WeightView WithVae::find(std::string_view name) const {
  if (!is_vae(name)) return base_->find(name);
  const WeightView view = describe(name);
  if (view.data) require_finite(view, name, sources_.find(name)->second.file->path());
  return view;
}

WeightView WithVae::describe(std::string_view name) const {
  if (!is_vae(name)) return base_->describe(name);
  const auto found = sources_.find(name);
  if (found == sources_.end()) return {};
  const StoredTensor& t = *found->second.tensor;
  WeightView view{t.dtype, {}, t.data, t.bytes};
  for (int64_t d : t.shape) view.shape.push_back(d);
  return view;
}

void WithVae::release(std::string_view name) const {
  if (!is_vae(name)) return base_->release(name);
  if (const auto found = sources_.find(name); found != sources_.end())
    found->second.file->release(*found->second.tensor);
}

std::optional<std::string> WithVae::text(std::string_view name) const {
  return name == "vae/config.json" ? std::optional(config_) : base_->text(name);
}

std::vector<std::string> WithVae::texts() const {
  std::vector<std::string> names = base_->texts();
  std::erase(names, "vae/config.json");
  names.push_back("vae/config.json");
  return names;
}

bool WithVae::has_component(std::string_view component) const {
  return component == "vae" || base_->has_component(component);
}

std::vector<std::string> WithVae::tensors() const {
  std::vector<std::string> names = base_->tensors();
  std::erase_if(names, [](const std::string& name) { return is_vae(name); });
  for (const auto& [name, tensor] : sources_) names.push_back(name);
  return names;
}

std::vector<std::string> WithVae::evidence() const {
  std::vector<std::string> lines = base_->evidence();
  std::string files;
  for (const TensorFile& f : files_) files += (files.empty() ? "" : " and ") + f.path();
  const VaeConfig vae = parse_vae_config(config_, files);
  lines.push_back(fmt::format("autoencoder: {} ({} tensors{}{})", files, sources_.size(), vae.tiny() ? ", TAESD" : "",
                              vae.has_encoder() ? "" : ": a decoder alone"));
  return lines;
}

}  // namespace darkroom

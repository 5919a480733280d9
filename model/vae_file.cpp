#include "model/vae_file.h"

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "model/inventory.h"
#include "model/ldm_family.h"

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
  const std::string ldm = prefix_ + ldm_(name);
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

WithVae::WithVae(std::unique_ptr<Checkpoint> base, const std::string& path) : base_(std::move(base)), file_(path) {
  const UNetConfig unet =
      parse_unet_config(base_->required_text("unet/config.json"), base_->where() + ": unet/config.json");
  // The scale of the latents is the model's: a file does not say it.
  double scale = unet.text_time ? 0.13025 : 0.18215;
  if (const auto own = base_->text("vae/config.json"))
    scale = double(parse_vae_config(*own, base_->where() + ": vae/config.json").scaling_factor);
  std::string prefix;
  for (const char* candidate : {"", kLdmVae, "vae."})
    if (file_.find(std::string(candidate) + "decoder.conv_in.weight")) prefix = candidate;
  const auto config = recognise_vae(file_, prefix, scale, 8 * unet.sample_size);
  if (!config) throw file_error("{}: is no autoencoder: it has no decoder.conv_in.weight", path);
  config_ = *config;
  const VaeConfig vae = parse_vae_config(config_, path);
  if (vae.latent_channels != unet.out_channels)
    throw file_error("{}: has {} latent channels, the model makes {}", path, vae.latent_channels, unet.out_channels);
  const VaeNames names(file_, prefix, vae);
  for (const InventoryEntry& e : vae_inventory(vae)) {
    const std::string name = names(e.name);
    const StoredTensor* t = file_.find(name);
    if (!t) throw file_error("{}: has no tensor {}", path, name);
    if (t->dtype != DType::f32 && t->dtype != DType::f16 && t->dtype != DType::bf16)
      throw file_error("{}: tensor {} is {}; weights are F32, F16 or BF16", path, name, t->dtype_text);
    if (!t->strides.empty() || t->shape.empty() || t->shape.size() > size_t(kMaxRank))
      throw file_error("{}: tensor {} does not lie as a weight does (row by row, 1 to {} dimensions)", path, name,
                       kMaxRank);
    sources_.emplace(e.full(), t);
  }
}

WeightView WithVae::find(std::string_view name) const {
  if (!is_vae(name)) return base_->find(name);
  const auto found = sources_.find(name);
  if (found == sources_.end()) return {};
  WeightView view{found->second->dtype, {}, found->second->data, found->second->bytes};
  for (int64_t d : found->second->shape) view.shape.push_back(d);
  return view;
}

WeightView WithVae::describe(std::string_view name) const { return is_vae(name) ? find(name) : base_->describe(name); }

void WithVae::release(std::string_view name) const {
  if (!is_vae(name)) return base_->release(name);
  if (const auto found = sources_.find(name); found != sources_.end()) file_.release(*found->second);
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
  lines.push_back(fmt::format("autoencoder: {} ({} tensors)", file_.path(), sources_.size()));
  return lines;
}

}  // namespace darkroom

#include "model/single_file_export.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "kernels/core/error.h"
#include "model/inventory.h"
#include "model/ldm_family.h"
#include "model/ldm_names.h"
#include "runtime/tensor_file_writer.h"

namespace darkroom {

namespace {

constexpr int64_t kOpenClipHLayers = 24;

const LdmFamily& family_of(const Checkpoint& source, const UNetConfig& unet) {
  const bool one = source.has_component("text_encoder"), two = source.has_component("text_encoder_2");
  std::string act;
  if (one && !two)
    act = activation_name(
        parse_clip_text_config(source.required_text("text_encoder/config.json"), source.where() + ": text_encoder")
            .hidden_act);
  for (const LdmFamily& family : ldm_families()) {
    if (family.encoders.size() != size_t(one) + size_t(two)) continue;
    if (family.encoders.size() == 1 && (std::string_view(family.encoders[0].component) == "text_encoder_2") != two)
      continue;
    if (one && !two && (family.encoders[0].layout == TextLayout::openclip) != (act == "gelu")) continue;
    return family;
  }
  throw file_error("{}: has the text encoders of no family with a layout of one file (context {})", source.where(),
                   unet.cross_attention_dim);
}

float element(const WeightView& v, int64_t i) {
  if (v.dtype == DType::f32) {
    float x;
    std::memcpy(&x, v.data + size_t(i) * sizeof(x), sizeof(x));
    return x;
  }
  uint16_t bits;
  std::memcpy(&bits, v.data + size_t(i) * sizeof(bits), sizeof(bits));
  return v.dtype == DType::f16 ? to_float(f16_t{bits}) : to_float(bf16_t{bits});
}

void put(std::byte* to, DType dtype, float x) {
  if (dtype == DType::f32) {
    std::memcpy(to, &x, sizeof(x));
  } else {
    const uint16_t bits = dtype == DType::f16 ? to_f16(x).bits : to_bf16(x).bits;
    std::memcpy(to, &bits, sizeof(bits));
  }
}

}  // namespace

std::vector<LdmTensor> ldm_layout(const Checkpoint& source) {
  const auto text = [&](const std::string& c) { return source.required_text(c + "/config.json"); };
  const auto where = [&](const std::string& c) { return source.where() + ": " + c; };
  const UNetConfig unet_config = parse_unet_config(text("unet"), where("unet"));
  const LdmFamily& family = family_of(source, unet_config);
  const VaeConfig vae_config = parse_vae_config(text("vae"), where("vae"));
  if (vae_config.tiny())
    throw usage_error("{}: its autoencoder is a TAESD, for which LDM's layout has no names: write a .sdw file",
                      source.where());
  const NameMap unet = ldm_unet_names(unet_config), vae = ldm_vae_names(vae_config);
  std::map<std::string, std::pair<const LdmTextEncoder*, NameMap>> encoders;
  for (const LdmTextEncoder& e : family.encoders)
    encoders.emplace(e.component,
                     std::pair(&e, openclip_names(parse_clip_text_config(text(e.component), where(e.component)))));

  std::vector<LdmTensor> items;
  std::map<std::string, size_t> by_name;  // fused tensors
  for (const InventoryEntry& e : model_inventory(source)) {
    LdmTensor item;
    for (int i = 0; i < e.shape.rank(); ++i) item.shape.push_back(e.shape[i]);
    item.ours = {e.full()};
    if (e.component == "unet") {
      item.name = kLdmUnet + unet(e.name);
    } else if (e.component == "vae") {
      item.name = kLdmVae + vae(e.name);
      if (e.shape.rank() == 2) item.shape.insert(item.shape.end(), {1, 1});
    } else if (const auto& [encoder, names] = encoders.at(e.component); encoder->layout == TextLayout::transformers) {
      item.name = encoder->prefix + e.name.substr(std::string_view("text_model.").size());
    } else {
      item.name = encoder->prefix + names(e.name);
      item.transposed = e.name == "text_projection.weight";
      if (item.transposed) std::swap(item.shape[0], item.shape[1]);
    }
    const auto [at, fresh] = by_name.emplace(item.name, items.size());
    if (fresh) {
      items.push_back(std::move(item));
    } else {  // q, then k, then v, as the text encoder's graph has them
      items[at->second].shape[0] += item.shape[0];
      items[at->second].ours.push_back(e.full());
    }
  }
  // OpenCLIP-H's last layer, which SD 2.x does not read: as large as the one before it.
  for (const LdmTextEncoder& e : family.encoders) {
    if (e.layers == 0) continue;
    const ClipTextConfig c = parse_clip_text_config(text(e.component), where(e.component));
    const int64_t last = c.num_hidden_layers - 1;
    if (c.num_hidden_layers != e.layers) continue;
    const std::string from = fmt::format("{}transformer.resblocks.{}.", e.prefix, last),
                      to = fmt::format("{}transformer.resblocks.{}.", e.prefix, kOpenClipHLayers - 1);
    for (size_t i = 0, n = items.size(); i < n; ++i)
      if (items[i].name.starts_with(from))
        items.push_back({to + items[i].name.substr(from.size()), items[i].shape, {}, false});
  }
  return items;
}

bool export_single_file(const Checkpoint& source, const std::string& path, std::optional<DType> dtype,
                        const std::function<void(uint64_t, uint64_t)>& progress, const std::atomic<bool>* cancel) {
  const bool torch = path.ends_with(".ckpt");
  TensorFileWriter writer(path, torch ? TensorFileWriter::Format::torch : TensorFileWriter::Format::safetensors);
  const std::vector<LdmTensor> items = ldm_layout(source);
  uint64_t total = 0, done = 0;
  std::vector<DType> types;
  for (const LdmTensor& item : items) {
    DType type = dtype.value_or(types.empty() ? DType::f32 : types.back());
    if (!dtype && !item.ours.empty()) {
      type = source.find(item.ours[0]).dtype;
      source.release(item.ours[0]);
    }
    types.push_back(type);
    writer.add(item.name, type, item.shape);
    uint64_t bytes = dtype_size(type);
    for (int64_t d : item.shape) bytes *= uint64_t(d);
    total += bytes;
  }
  writer.begin();
  std::vector<std::byte> buffer;
  for (size_t i = 0; i < items.size(); ++i) {
    if (cancel && cancel->load()) return false;
    const LdmTensor& item = items[i];
    const size_t size = dtype_size(types[i]);
    if (item.ours.empty()) {
      int64_t elements = 1;
      for (int64_t d : item.shape) elements *= d;
      buffer.assign(size_t(elements) * size, std::byte(0));
      writer.write(buffer.data(), buffer.size());
    }
    for (const std::string& name : item.ours) {
      const WeightView view = source.find(name);
      const int64_t n = view.shape.elements();
      buffer.resize(size_t(n) * size);
      const int64_t rows = item.transposed ? item.shape[0] : 1, columns = n / rows;
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c)
          put(buffer.data() + size_t(r * columns + c) * size, types[i],
              element(view, item.transposed ? c * rows + r : c));
      writer.write(buffer.data(), buffer.size());
      done += buffer.size();
      source.release(name);
    }
    if (progress) progress(done, total);
  }
  writer.commit();
  return true;
}

}  // namespace darkroom

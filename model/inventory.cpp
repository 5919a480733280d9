#include "model/inventory.h"

#include <set>

#include "kernels/core/error.h"
#include "model/clip.h"
#include "model/unet.h"
#include "model/vae.h"
#include "runtime/graph.h"

namespace darkroom {

namespace {

class Collector {
 public:
  std::vector<InventoryEntry> entries;

  void add(const std::string& component, const Graph& graph) {
    for (const Node& node : graph.nodes())
      for (ValueId v : node.inputs)
        if (v != kNoValue && graph.value(v).kind == ValueKind::weight && seen_.insert(graph.value(v).name).second)
          entries.push_back({component, graph.value(v).name.substr(component.size() + 1), graph.value(v).shape});
  }

 private:
  std::set<std::string> seen_;
};

bool same_shape(Shape have, const Shape& wanted) {
  // A 1×1 convolution may be stored as a linear layer, and the other way round.
  if (wanted.rank() == 2 && have.rank() == 4 && have[2] == 1 && have[3] == 1) have = Shape{have[0], have[1]};
  if (wanted.rank() == 4 && wanted[2] == 1 && wanted[3] == 1 && have.rank() == 2) have = Shape{have[0], have[1], 1, 1};
  return have == wanted;
}

}  // namespace

std::vector<InventoryEntry> model_inventory(const Checkpoint& checkpoint) {
  Collector all;
  const auto config = [&](const std::string& component) {
    return checkpoint.required_text(component + "/config.json");
  };
  const auto where = [&](const std::string& component) {
    return checkpoint.where() + ": " + component + "/config.json";
  };
  for (const std::string component : {"text_encoder", "text_encoder_2"}) {
    if (!checkpoint.has_component(component)) continue;
    const ClipTextConfig c = parse_clip_text_config(config(component), where(component));
    ClipGraphOptions options;
    options.tokens = c.max_position_embeddings;
    options.pooled = true;
    all.add(component, build_clip(c, component, options));
  }
  const UNetConfig unet = parse_unet_config(config("unet"), where("unet"));
  all.add("unet", build_unet(unet, {1, unet.sample_size, unet.sample_size, 77, DType::f32}));
  if (checkpoint.has_component("vae"))
    for (InventoryEntry& e : vae_inventory(parse_vae_config(config("vae"), where("vae"))))
      all.entries.push_back(std::move(e));
  return all.entries;
}

std::vector<InventoryEntry> vae_inventory(const VaeConfig& config) {
  Collector all;
  all.add("vae", build_vae_decoder(config, {1, 8, 8, DType::f32}));
  if (config.has_encoder())
    all.add("vae", build_vae_encoder(config, {1, 8 * config.factor(), 8 * config.factor(), DType::f32}));
  return all.entries;
}

void check_inventory(const Checkpoint& checkpoint, const std::vector<InventoryEntry>& inventory) {
  std::set<std::string> wanted;
  for (const InventoryEntry& e : inventory) {
    wanted.insert(e.full());
    const WeightView have = checkpoint.describe(e.full());
    if (have.dtype == DType::none) throw file_error("{}: has no tensor {}", checkpoint.where(), e.full());
    if (!same_shape(have.shape, e.shape))
      throw file_error("{}: {} is {}, the model wants {}", checkpoint.where(), e.full(), have.shape.to_string(),
                       e.shape.to_string());
  }
  for (const std::string& name : checkpoint.tensors())
    if (!wanted.contains(name))
      throw file_error("{}: {} is a tensor that no network of this configuration reads", checkpoint.where(), name);
}

}  // namespace darkroom

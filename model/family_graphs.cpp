#include "model/family_graphs.h"

#include "model/clip.h"
#include "model/configs.h"
#include "model/synthetic.h"
#include "model/unet.h"
#include "model/vae.h"
#include "runtime/fusion.h"

namespace darkroom {

std::vector<Graph> family_graphs(const std::string& family, const FamilyGraphOptions& o) {
  const SyntheticCheckpoint checkpoint(family);
  const auto config = [&](const std::string& name) { return checkpoint.required_text(name + "/config.json"); };
  std::vector<Graph> graphs;
  for (const std::string component : {"text_encoder", "text_encoder_2"}) {
    if (!checkpoint.has_component(component)) continue;
    ClipGraphOptions clip;
    clip.batch = o.batch;
    clip.dtype = o.dtype;
    graphs.push_back(build_clip(parse_clip_text_config(config(component), component), component, clip));
  }
  const UNetConfig unet = parse_unet_config(config("unet"), "unet");
  const VaeConfig vae = parse_vae_config(config("vae"), "vae");
  const int64_t size = o.unet_size > 0 ? o.unet_size : unet.sample_size;
  const int64_t vae_size = o.vae_size > 0 ? o.vae_size : unet.sample_size;
  const int64_t pixels = vae_size * vae.factor();
  graphs.push_back(build_unet(unet, {o.batch, size, size, 77, o.dtype}));
  graphs.push_back(build_vae_decoder(vae, {1, vae_size, vae_size, o.dtype}));
  graphs.push_back(build_vae_encoder(vae, {1, pixels, pixels, o.dtype}));
  for (Graph& graph : graphs) {
    for (Value& v : graph.mutable_values())
      if (v.kind == ValueKind::weight) v.dtype = v.shape.rank() > 1 ? o.weights : DType::f32;
    run_fusion(graph, {});
  }
  return graphs;
}

}  // namespace darkroom

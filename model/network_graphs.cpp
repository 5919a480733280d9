#include "model/network_graphs.h"

#include <algorithm>

#include "model/clip.h"
#include "model/configs.h"
#include "model/synthetic.h"
#include "model/unet.h"
#include "model/vae.h"
#include "runtime/fusion.h"

namespace darkroom {

std::vector<Graph> network_graphs(const Checkpoint& checkpoint, const NetworkGraphOptions& o) {
  const auto parse = [&](const std::string& component, auto parser) {
    const std::string file = component + "/config.json";
    return parser(checkpoint.required_text(file), file);
  };
  std::vector<Graph> graphs;
  for (const std::string component : {"text_encoder", "text_encoder_2"}) {
    if (!checkpoint.has_component(component)) continue;
    ClipGraphOptions clip;
    clip.batch = o.batch;
    clip.dtype = o.dtype;
    const ClipTextConfig config = parse(component, parse_clip_text_config);
    clip.tokens = std::min(clip.tokens, config.max_position_embeddings);
    graphs.push_back(build_clip(config, component, clip));
  }
  const UNetConfig unet = parse("unet", parse_unet_config);
  const VaeConfig vae = parse("vae", parse_vae_config);
  const int64_t size = o.unet_size > 0 ? o.unet_size : unet.sample_size;
  const int64_t vae_size = o.vae_size > 0 ? o.vae_size : unet.sample_size;
  const int64_t pixels = vae_size * vae.factor();
  graphs.push_back(build_unet(unet, {o.batch, size, size, 77, o.dtype}));
  graphs.push_back(build_vae_decoder(vae, {1, vae_size, vae_size, o.dtype}));
  if (vae.has_encoder()) graphs.push_back(build_vae_encoder(vae, {1, pixels, pixels, o.dtype}));
  for (Graph& graph : graphs) {
    for (Value& v : graph.mutable_values())
      if (v.kind == ValueKind::weight) v.dtype = v.shape.rank() > 1 ? o.weights : DType::f32;
    run_fusion(graph, {"conv_moments"}, {.kernels = {}, .isa = o.isa});
  }
  return graphs;
}

std::vector<Graph> family_graphs(const std::string& family, const NetworkGraphOptions& options) {
  return network_graphs(SyntheticCheckpoint(family), options);
}

}  // namespace darkroom

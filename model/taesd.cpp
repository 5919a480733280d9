#include "model/taesd.h"

#include <cmath>

#include "kernels/core/error.h"
#include "model/layers.h"

namespace darkroom {

namespace {

// relu(x + conv(relu(conv(relu(conv(x))))))
ValueId block(const Scope& s, ValueId x) {
  const int64_t channels = s.shape(x).channels();
  ValueId h = s.activation("conv.1", s.conv3x3("conv.0", x, channels), Activation::relu);
  h = s.activation("conv.3", s.conv3x3("conv.2", h, channels), Activation::relu);
  h = s.conv3x3("conv.4", h, channels);
  return s.activation("fuse", s.add("residual", h, x), Activation::relu);
}

}  // namespace

Graph build_taesd_decoder(const VaeConfig& config, const VaeGraphOptions& options) {
  Graph g("vae_decoder", options.dtype);
  const Scope s = Scope(g, "vae").child("decoder");
  const int64_t channels = config.block_out_channels[0];
  size_t layer = 0;
  const auto next = [&] { return "layers." + std::to_string(layer++); };

  ValueId x = g.input("z", {options.batch, options.height, options.width, config.latent_channels}, DType::f32);
  x = s.conv3x3(next(), x, channels);
  x = s.activation(next(), x, Activation::relu);
  for (size_t level = 0; level < config.num_decoder_blocks.size(); ++level) {
    if (level > 0) {
      x = g.add(s.node(next()), UpsampleAttrs{2 * g.shape(x)[1], 2 * g.shape(x)[2]}, {x});
      x = s.conv3x3(next(), x, channels, 1, DType::none, /*bias=*/false);
    }
    for (int64_t i = 0; i < config.num_decoder_blocks[level]; ++i) x = block(s.child(next()), x);
  }
  g.output("image", s.conv3x3(next(), x, config.out_channels, 1, DType::f32));
  return g;
}

Graph build_taesd_encoder(const VaeConfig& config, const VaeGraphOptions& options) {
  if (!config.has_encoder()) throw usage_error("vae: this TAESD is a decoder alone");
  Graph g("vae_encoder", options.dtype);
  const Scope s = Scope(g, "vae").child("encoder");
  const int64_t channels = config.block_out_channels[0];
  size_t layer = 0;
  const auto next = [&] { return "layers." + std::to_string(layer++); };

  ValueId x = g.input("image", {options.batch, options.height, options.width, config.in_channels}, DType::f32);
  for (size_t level = 0; level < config.num_encoder_blocks.size(); ++level) {
    x = level == 0 ? s.conv3x3(next(), x, channels) : s.conv3x3(next(), x, channels, 2, DType::none, /*bias=*/false);
    for (int64_t i = 0; i < config.num_encoder_blocks[level]; ++i) x = block(s.child(next()), x);
  }
  g.output("latents", s.conv3x3(next(), x, config.latent_channels, 1, DType::f32));
  return g;
}

float clamp_taesd_latent(float x) { return 3 * std::tanh(x / 3); }

}  // namespace darkroom

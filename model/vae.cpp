#include "model/vae.h"

#include "kernels/core/error.h"
#include "model/layers.h"
#include "model/taesd.h"

namespace darkroom {

namespace {

constexpr float kNormEps = 1e-6f;  // everywhere in the autoencoder

ValueId norm_silu(const Scope& s, const VaeConfig& config, const std::string& norm, const std::string& act, ValueId x) {
  return s.activation(act, s.group_norm(norm, x, config.norm_num_groups, kNormEps), Activation::silu);
}

ValueId resnet(const Scope& s, const VaeConfig& config, ValueId x, int64_t out) {
  ValueId h = s.conv3x3("conv1", norm_silu(s, config, "norm1", "act1", x), out);
  h = s.conv3x3("conv2", norm_silu(s, config, "norm2", "act2", h), out);
  const bool same = s.shape(x).channels() == out;
  return s.add("residual", h, same ? x : s.conv1x1("conv_shortcut", x, out));
}

// One head over all pixels; unlike in the UNet, q, k and v have a bias.
ValueId attention(const Scope& s, const VaeConfig& config, ValueId x) {
  Graph& g = s.graph();
  const Shape map = s.shape(x);
  const int64_t c = map.channels();
  const ValueId h =
      g.reshape(s.group_norm("group_norm", x, config.norm_num_groups, kNormEps), {map[0], map[1] * map[2], c});
  const ValueId q = s.linear("to_q", h, c);
  const ValueId k = s.linear("to_k", h, c);
  const ValueId v = s.linear("to_v", h, c);
  const ValueId out = s.child("to_out").linear("0", s.attention("attention", q, k, v, /*heads=*/1), c);
  return s.add("residual", g.reshape(out, map), x);
}

ValueId mid_block(const Scope& s, const VaeConfig& config, ValueId x) {
  const int64_t c = s.shape(x).channels();
  x = resnet(s.child("resnets.0"), config, x, c);
  if (config.mid_block_add_attention) x = attention(s.child("attentions.0"), config, x);
  return resnet(s.child("resnets.1"), config, x, c);
}

ValueId head(const Scope& s, const VaeConfig& config, ValueId x, int64_t channels, DType dtype) {
  return s.conv3x3("conv_out", norm_silu(s, config, "conv_norm_out", "conv_act", x), channels, 1, dtype);
}

void check(const VaeGraphOptions& options) {
  if (options.batch < 1 || options.height < 1 || options.width < 1)
    throw usage_error("vae: batch {}, {}x{} pixels: all must be positive", options.batch, options.height,
                      options.width);
}

}  // namespace

Graph build_vae_decoder(const VaeConfig& config, const VaeGraphOptions& options) {
  check(options);
  if (config.tiny()) return build_taesd_decoder(config, options);
  Graph g("vae_decoder", options.dtype);
  const Scope vae(g, "vae");
  const Scope s = vae.child("decoder");
  const size_t levels = config.block_out_channels.size();

  ValueId x = g.input("z", {options.batch, options.height, options.width, config.latent_channels}, DType::f32);
  if (config.use_post_quant_conv) x = vae.conv1x1("post_quant_conv", x, config.latent_channels, DType::f32);
  x = s.conv3x3("conv_in", x, config.block_out_channels.back());
  x = mid_block(s.child("mid_block"), config, x);
  for (size_t i = 0; i < levels; ++i) {
    const Scope block = s.child("up_blocks", i);
    const int64_t channels = config.block_out_channels[levels - 1 - i];
    for (int64_t r = 0; r < config.layers_per_block + 1; ++r)
      x = resnet(block.child("resnets", size_t(r)), config, x, channels);
    if (i + 1 == levels) break;
    const Scope up = block.child("upsamplers.0");
    x = g.add(up.node("upsample"), UpsampleAttrs{2 * g.shape(x)[1], 2 * g.shape(x)[2]}, {x});
    x = up.conv3x3("conv", x, channels);
  }
  g.output("image", head(s, config, x, config.out_channels, DType::f32));
  return g;
}

Graph build_vae_encoder(const VaeConfig& config, const VaeGraphOptions& options) {
  check(options);
  if (config.tiny()) return build_taesd_encoder(config, options);
  Graph g("vae_encoder", options.dtype);
  const Scope vae(g, "vae");
  const Scope s = vae.child("encoder");
  const size_t levels = config.block_out_channels.size();

  ValueId x = g.input("image", {options.batch, options.height, options.width, config.in_channels}, DType::f32);
  x = s.conv3x3("conv_in", x, config.block_out_channels[0]);
  for (size_t i = 0; i < levels; ++i) {
    const Scope block = s.child("down_blocks", i);
    for (int64_t r = 0; r < config.layers_per_block; ++r)
      x = resnet(block.child("resnets", size_t(r)), config, x, config.block_out_channels[i]);
    if (i + 1 == levels) break;
    Conv2dAttrs down;  // padded on the right and below only
    down.stride = 2;
    down.pad_top = down.pad_left = 0;
    x = block.child("downsamplers.0").conv("conv", x, config.block_out_channels[i], down);
  }
  x = mid_block(s.child("mid_block"), config, x);
  x = head(s, config, x, 2 * config.latent_channels, DType::f32);
  if (config.use_quant_conv) x = vae.conv1x1("quant_conv", x, 2 * config.latent_channels, DType::f32);
  g.output("moments", x);
  return g;
}

}  // namespace darkroom

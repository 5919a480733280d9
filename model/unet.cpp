#include "model/unet.h"

#include "kernels/core/error.h"
#include "model/layers.h"
#include "runtime/quantize.h"

namespace darkroom {

namespace {

constexpr float kTransformerNormEps = 1e-6f;  // the GroupNorm before a transformer; resnets take norm_eps
constexpr float kLayerNormEps = 1e-5f;

class UNetBuilder {
 public:
  UNetBuilder(Graph& g, const UNetConfig& config, const UNetGraphOptions& options)
      : g_(g), config_(config), options_(options), root_(g, "unet") {}

  void build() {
    const size_t levels = config_.block_out_channels.size();
    const int64_t latents = options_.shared_sample ? 1 : options_.batch;
    ValueId sample = g_.input("sample", {latents, options_.height, options_.width, config_.in_channels}, DType::f32);
    if (latents != options_.batch) sample = g_.broadcast(sample, options_.batch);
    temb_ = time_embedding();
    context_ = g_.input("context", {options_.batch, options_.tokens, config_.cross_attention_dim}, DType::f32);

    ValueId x = root_.conv3x3("conv_in", sample, config_.block_out_channels[0]);
    skips_.push_back(x);
    if (options_.deep_features == DeepFeatures::reuse) {
      x = last_up_resnet(root_.child("up_blocks", levels - 1), deep_features_input());
    } else {
      for (size_t level = 0; level < levels; ++level) x = down_block(level, x);
      x = mid_block(x);
      for (size_t i = 0; i < levels; ++i) x = up_block(i, x);
    }

    x = root_.group_norm("conv_norm_out", x, config_.norm_num_groups, config_.norm_eps);
    x = root_.activation("conv_act", x, Activation::silu);
    g_.output("noise_pred", root_.conv3x3("conv_out", x, config_.out_channels, 1, DType::f32));
  }

 private:
  // [B] → [B, 4·C0]: sinusoids, then linear – silu – linear; XL adds an embedding of pooled text and sizes. The silu that
  // every resnet applies before its projection is applied here, once. All of it in f32.
  ValueId time_embedding() {
    const int64_t width = 4 * config_.block_out_channels[0];
    const auto sinusoid = [&](const std::string& name, ValueId t, int64_t dim) {
      TimestepEmbeddingAttrs attrs;
      attrs.dim = int(dim);
      attrs.flip_sin_to_cos = config_.flip_sin_to_cos;
      attrs.freq_shift = config_.freq_shift;
      return g_.add(name, attrs, {t}, DType::f32);
    };
    const auto mlp = [&](const Scope& s, ValueId x) {
      x = s.linear("linear_1", x, width, true, DType::f32);
      return s.linear("linear_2", s.activation("act", x, Activation::silu, DType::f32), width, true, DType::f32);
    };

    ValueId x = sinusoid("time_proj", g_.input("timestep", {timestep_rows(config_, options_)}, DType::f32),
                         config_.block_out_channels[0]);
    const Scope time = root_.child("time_embedding");
    if (config_.time_cond_proj_dim > 0) {
      const ValueId cond = g_.input("timestep_cond", {options_.batch, config_.time_cond_proj_dim}, DType::f32);
      x = time.add("add_cond", x, time.linear("cond_proj", cond, config_.block_out_channels[0], false, DType::f32),
                   DType::f32);
    }
    x = mlp(time, x);
    if (config_.text_time) {
      const int64_t ids = time_id_count(config_);
      const int64_t pooled = config_.projection_class_embeddings_input_dim - ids * config_.addition_time_embed_dim;
      const ValueId text = g_.input("text_embeds", {options_.batch, pooled}, DType::f32);
      const ValueId sizes = sinusoid("add_time_proj", g_.input("time_ids", {options_.batch, ids}, DType::f32),
                                     config_.addition_time_embed_dim);
      const ValueId both = g_.add("add_embedding.concat", ConcatAttrs{}, {text, sizes}, DType::f32);
      x = root_.add("add_embedding.add", x, mlp(root_.child("add_embedding"), both), DType::f32);
    }
    return root_.activation("time_act", x, Activation::silu, DType::f32);
  }

  // x + conv2(silu(norm2(conv1(silu(norm1(x))) + temb))), the input through a 1×1 where the width changes.
  ValueId resnet(const Scope& s, ValueId x, int64_t out) {
    ValueId h = s.group_norm("norm1", x, config_.norm_num_groups, config_.norm_eps);
    h = s.conv3x3("conv1", s.activation("act1", h, Activation::silu), out);
    ValueId temb = s.linear("time_emb_proj", temb_, out, true, DType::f32);
    if (g_.shape(temb)[0] != options_.batch) temb = g_.broadcast(temb, options_.batch);
    h = s.add("add_temb", h, temb);
    h = s.group_norm("norm2", h, config_.norm_num_groups, config_.norm_eps);
    h = s.conv3x3("conv2", s.activation("act2", h, Activation::silu), out);
    const bool same = g_.shape(x).channels() == out;
    return s.add("residual", h, same ? x : s.conv1x1("conv_shortcut", x, out));
  }

  // q from x, k and v from `source`; x itself for self-attention.
  ValueId attention(const Scope& s, ValueId x, ValueId source, int64_t heads) {
    const int64_t c = g_.shape(x).channels();
    const ValueId q = s.linear("to_q", x, c, false);
    const ValueId k = s.linear("to_k", source, c, false);
    const ValueId v = s.linear("to_v", source, c, false);
    return s.child("to_out").linear("0", s.attention("attention", q, k, v, heads), c);
  }

  ValueId feed_forward(const Scope& s, ValueId x) {
    const int64_t c = g_.shape(x).channels();
    ValueId h = s.child("net.0").linear("proj", x, 8 * c);
    h = g_.add(s.node("net.0.geglu"), GegluAttrs{}, {h});
    return s.child("net").linear("2", h, c);
  }

  ValueId transformer_block(const Scope& s, ValueId x, int64_t heads) {
    const ValueId normed = s.layer_norm("norm1", x, kLayerNormEps);
    x = s.add("residual1", attention(s.child("attn1"), normed, normed, heads), x);
    x = s.add("residual2", attention(s.child("attn2"), s.layer_norm("norm2", x, kLayerNormEps), context_, heads), x);
    return s.add("residual3", feed_forward(s.child("ff"), s.layer_norm("norm3", x, kLayerNormEps)), x);
  }

  // [B, H, W, C] → the same: norm, project in, blocks over the H·W pixels as a sequence, project out, residual.
  ValueId transformer(const Scope& s, ValueId x, size_t level) {
    const Shape map = g_.shape(x);
    const Shape sequence{map[0], map[1] * map[2], map[3]};
    ValueId h = s.group_norm("norm", x, config_.norm_num_groups, kTransformerNormEps);
    if (config_.use_linear_projection)
      h = s.linear("proj_in", g_.reshape(h, sequence), map[3]);
    else
      h = g_.reshape(s.conv1x1("proj_in", h, map[3]), sequence);
    for (int64_t i = 0; i < config_.transformer_layers_per_block[level]; ++i)
      h = transformer_block(s.child("transformer_blocks", size_t(i)), h, config_.num_attention_heads[level]);
    if (config_.use_linear_projection)
      h = g_.reshape(s.linear("proj_out", h, map[3]), map);
    else
      h = s.conv1x1("proj_out", g_.reshape(h, map), map[3]);
    return s.add("residual", h, x);
  }

  ValueId down_block(size_t level, ValueId x) {
    const Scope s = root_.child("down_blocks", level);
    for (size_t i = 0; i < size_t(config_.layers_per_block[level]); ++i) {
      x = resnet(s.child("resnets", i), x, config_.block_out_channels[level]);
      if (config_.down_attention[level]) x = transformer(s.child("attentions", i), x, level);
      skips_.push_back(x);
    }
    if (level + 1 < config_.block_out_channels.size()) {
      x = s.child("downsamplers.0").conv3x3("conv", x, config_.block_out_channels[level], 2);
      skips_.push_back(x);
    }
    return x;
  }

  ValueId mid_block(ValueId x) {
    const Scope s = root_.child("mid_block");
    const size_t last = config_.block_out_channels.size() - 1;
    x = resnet(s.child("resnets.0"), x, config_.block_out_channels[last]);
    if (config_.mid_attention) x = transformer(s.child("attentions.0"), x, last);
    return resnet(s.child("resnets.1"), x, config_.block_out_channels[last]);
  }

  // Takes the last skip, [hidden, skip].
  ValueId up_resnet(const Scope& block, size_t i, ValueId x, size_t level, bool attends) {
    const ValueId skip = skips_.back();
    skips_.pop_back();
    x = g_.add(block.node("concat." + std::to_string(i)), ConcatAttrs{}, {x, skip});
    x = resnet(block.child("resnets", i), x, config_.block_out_channels[level]);
    return attends ? transformer(block.child("attentions", i), x, level) : x;
  }

  // The last of all reads the first skip: conv_in's result.
  ValueId last_up_resnet(const Scope& block, ValueId x) {
    return up_resnet(block, size_t(config_.layers_per_block[0]), x, 0, config_.up_attention.back());
  }

  ValueId deep_features_input() {
    const int64_t channels = config_.block_out_channels[0];
    return g_.input("deep_features", {options_.batch, options_.height, options_.width, channels}, g_.dtype());
  }

  // up_blocks.0 is the deepest level. One resnet more than on the way down; each takes a skip, [hidden, skip].
  ValueId up_block(size_t index, ValueId x) {
    const Scope s = root_.child("up_blocks", index);
    const size_t level = config_.block_out_channels.size() - 1 - index;
    for (size_t i = 0; i < size_t(config_.layers_per_block[level]) + (level > 0); ++i)
      x = up_resnet(s, i, x, level, config_.up_attention[index]);
    if (level == 0) {
      if (options_.deep_features == DeepFeatures::expose) g_.output("deep_features", x);
      return last_up_resnet(s, x);
    }
    // To the size of the next skip, which is not always twice this one: odd sizes.
    const Shape target = g_.shape(skips_.back());
    const Scope up = s.child("upsamplers.0");
    x = g_.add(up.node("upsample"), UpsampleAttrs{target[1], target[2]}, {x});
    return up.conv3x3("conv", x, config_.block_out_channels[level]);
  }

  Graph& g_;
  const UNetConfig& config_;
  const UNetGraphOptions& options_;
  Scope root_;
  ValueId temb_ = kNoValue;     // [B, 4·C0] f32, silu applied
  ValueId context_ = kNoValue;  // [B, tokens, cross_attention_dim]
  std::vector<ValueId> skips_;
};

}  // namespace

int64_t time_id_count(const UNetConfig& config) {
  // Told apart by the pooled width, which is a whole number of 64 in either.
  const int64_t rest = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim;
  return rest > 0 && config.projection_class_embeddings_input_dim != 2560 ? 6 : 5;
}

int64_t timestep_rows(const UNetConfig& config, const UNetGraphOptions& options) {
  const bool alone = !config.text_time && config.time_cond_proj_dim == 0;
  return options.shared_sample && alone ? 1 : options.batch;
}

Graph build_unet(const UNetConfig& config, const UNetGraphOptions& options) {
  if (options.batch < 1 || options.height < 1 || options.width < 1 || options.tokens < 1)
    throw usage_error("unet: batch {}, {}x{} latent pixels, {} tokens: all must be positive", options.batch,
                      options.height, options.width, options.tokens);
  Graph g("unet", options.dtype);
  UNetBuilder(g, config, options).build();
  if (options.int8) quantize_int8(g);
  return g;
}

}  // namespace darkroom

#include "model/clip.h"

#include "kernels/core/error.h"
#include "model/layers.h"

namespace darkroom {

namespace {

ValueId attention(const Scope& s, const ClipTextConfig& config, ValueId x) {
  const int64_t c = config.hidden_size;
  const ValueId q = s.linear("q_proj", x, c);
  const ValueId k = s.linear("k_proj", x, c);
  const ValueId v = s.linear("v_proj", x, c);
  return s.linear("out_proj", s.attention("attention", q, k, v, config.num_attention_heads, /*causal=*/true), c);
}

ValueId mlp(const Scope& s, const ClipTextConfig& config, ValueId x) {
  x = s.linear("fc1", x, config.intermediate_size);
  x = s.activation("act", x, config.hidden_act);
  return s.linear("fc2", x, config.hidden_size);
}

ValueId layer(const Scope& s, const ClipTextConfig& config, ValueId x) {
  x = s.add("residual1", attention(s.child("self_attn"), config, s.layer_norm("layer_norm1", x, config.layer_norm_eps)),
            x);
  return s.add("residual2", mlp(s.child("mlp"), config, s.layer_norm("layer_norm2", x, config.layer_norm_eps)), x);
}

}  // namespace

Graph build_clip(const ClipTextConfig& config, const std::string& component, const ClipGraphOptions& options) {
  const int64_t all = config.num_hidden_layers;
  const int64_t wanted = options.layers < 0 ? all : options.layers;
  if (wanted > all) throw usage_error("{}: hidden state {} of a model with {} layers", component, wanted, all);
  if (options.tokens < 1 || options.tokens > config.max_position_embeddings)
    throw usage_error("{}: {} tokens, the model takes 1 to {}", component, options.tokens,
                      config.max_position_embeddings);

  Graph g(component, options.dtype);
  const ValueId ids = g.input("input_ids", {options.batch, options.tokens}, DType::i32);
  const Scope model = Scope(g, component).child("text_model");

  const Scope embeddings = model.child("embeddings");
  ValueId x =
      g.add(embeddings.node("lookup"), EmbeddingAttrs{},
            {ids, embeddings.weight("token_embedding.weight", {config.vocab_size, config.hidden_size}),
             embeddings.weight("position_embedding.weight", {config.max_position_embeddings, config.hidden_size})});

  // Outputs are f32 whatever the graph computes in.
  const auto emit = [&](const std::string& name, ValueId value) {
    g.output(name,
             g.value(value).dtype == DType::f32 ? value : g.add("output." + name, UnaryAttrs{}, {value}, DType::f32));
  };
  const auto final_norm = [&](ValueId v) { return model.layer_norm("final_layer_norm", v, config.layer_norm_eps); };

  const bool whole = options.pooled || options.all_hidden;
  const int64_t depth = whole ? all : wanted;
  ValueId hidden = x;
  for (int64_t i = 0; i <= depth; ++i) {
    if (i > 0) x = layer(model.child("encoder").child("layers", size_t(i - 1)), config, x);
    if (options.all_hidden) emit("hidden_states." + std::to_string(i), x);
    if (i == wanted) hidden = x;
  }
  ValueId normed = kNoValue;
  if (options.final_norm) normed = final_norm(hidden);
  emit("hidden", options.final_norm ? normed : hidden);
  if (!options.pooled) return g;

  const ValueId last = options.final_norm && wanted == all ? normed : final_norm(x);
  const ValueId eos = g.input("eos_index", {options.batch}, DType::i32);
  const ValueId pooled = g.add("pooled", SelectRowsAttrs{}, {last, eos});
  emit("pooled", pooled);
  if (config.with_projection)
    emit("text_embeds", Scope(g, component).linear("text_projection", pooled, config.projection_dim, /*bias=*/false));
  return g;
}

}  // namespace darkroom

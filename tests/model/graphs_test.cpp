// The graphs of the small models use exactly the tensors that their checkpoints hold, in the shapes that they have.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "model/clip.h"
#include "model/unet.h"
#include "model/vae.h"

namespace darkroom {
namespace {

using Tensors = std::map<std::string, std::string>;

// Names and shapes from a safetensors header.
Tensors checkpoint(const std::string& file, const std::string& component) {
  std::ifstream in(DARKROOM_SOURCE_DIR "/tests/golden/models/" + file, std::ios::binary);
  uint64_t length = 0;
  in.read(reinterpret_cast<char*>(&length), 8);
  std::string header(length, ' ');
  in.read(header.data(), std::streamsize(length));
  Tensors tensors;
  const nlohmann::json parsed = nlohmann::json::parse(header);
  for (const auto& [name, entry] : parsed.items()) {
    if (name == "__metadata__" || name.ends_with("position_ids")) continue;
    std::string shape;
    for (int64_t d : entry["shape"]) shape += std::to_string(d) + " ";
    tensors[component + "/" + name] = shape;
  }
  return tensors;
}

void collect(const Graph& g, Tensors& tensors) {
  g.check();
  for (const Value& v : g.values()) {
    if (v.kind != ValueKind::weight) continue;
    std::string shape;
    for (int i = 0; i < v.shape.rank(); ++i) shape += std::to_string(v.shape[i]) + " ";
    tensors[v.name] = shape;
  }
}

UNetConfig tiny_unet(const std::string& name) {
  UNetConfig c;
  c.norm_num_groups = 8;
  c.layers_per_block = {1, 1, 1, 1};
  if (name == "tiny-sd15") {
    c.block_out_channels = {16, 32, 48, 48};
    c.num_attention_heads = {2, 2, 2, 2};
    c.cross_attention_dim = 32;
  } else if (name == "tiny-sd21") {
    c.block_out_channels = {16, 32, 32, 32};
    c.layers_per_block = {2, 2, 2, 2};
    c.num_attention_heads = {2, 4, 4, 4};
    c.cross_attention_dim = 48;
    c.use_linear_projection = true;
  } else {
    c.block_out_channels = {32, 32, 48};
    c.layers_per_block = {1, 1, 1};
    c.down_attention = {false, true, true};
    c.up_attention = {true, true, false};
    c.num_attention_heads = {2, 2, 3};
    c.transformer_layers_per_block = {1, 2, 2};
    c.cross_attention_dim = 80;
    c.norm_num_groups = 16;
    c.use_linear_projection = true;
    c.text_time = true;
    c.addition_time_embed_dim = 16;
    c.projection_class_embeddings_input_dim = 136;
  }
  return c;
}

TEST(UNetGraph, UsesTheCheckpointsTensors) {
  for (const std::string name : {"tiny-sd15", "tiny-sd21", "tiny-sdxl"}) {
    SCOPED_TRACE(name);
    UNetGraphOptions options;
    options.height = 9;
    options.width = 13;
    const Graph g = build_unet(tiny_unet(name), options);
    Tensors tensors;
    collect(g, tensors);
    EXPECT_EQ(tensors, checkpoint(name + "/unet/diffusion_pytorch_model.safetensors", "unet"));
    ASSERT_EQ(g.outputs().size(), 1u);
    EXPECT_EQ(g.shape(g.outputs()[0].value), (Shape{2, 9, 13, 4}));
  }
}

TEST(VaeGraph, UsesTheCheckpointsTensors) {
  VaeConfig config;
  config.block_out_channels = {16, 16, 32, 32};
  config.layers_per_block = 1;
  config.norm_num_groups = 8;
  VaeGraphOptions options;
  options.height = options.width = 16;
  Tensors tensors;
  const Graph decoder = build_vae_decoder(config, options), encoder = build_vae_encoder(config, options);
  collect(decoder, tensors);
  collect(encoder, tensors);
  EXPECT_EQ(tensors, checkpoint("tiny-sd21/vae/diffusion_pytorch_model.safetensors", "vae"));
  EXPECT_EQ(decoder.shape(decoder.outputs()[0].value), (Shape{1, 128, 128, 3}));
  EXPECT_EQ(encoder.shape(encoder.outputs()[0].value), (Shape{1, 2, 2, 8}));
}

TEST(ClipGraph, UsesTheCheckpointsTensors) {
  ClipTextConfig config;
  config.vocab_size = 1000;
  config.hidden_size = 48;
  config.intermediate_size = 96;
  config.num_attention_heads = 3;
  config.num_hidden_layers = 4;
  config.projection_dim = 40;
  config.with_projection = true;
  config.hidden_act = Activation::gelu;
  ClipGraphOptions options;
  options.pooled = true;
  Tensors tensors;
  collect(build_clip(config, "text_encoder_2", options), tensors);
  EXPECT_EQ(tensors, checkpoint("tiny-sdxl/text_encoder_2/model.safetensors", "text_encoder_2"));
}

}  // namespace
}  // namespace darkroom

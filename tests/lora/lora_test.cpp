// LoRAs against a merge in double, in every naming scheme; what does not fit is refused in one line.
#include "model/lora.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "model/inventory.h"
#include "model/sdw_checkpoint.h"
#include "model/synthetic.h"
#include "tests/lora/schemes.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

const std::string kBin = DARKROOM_BINARY_DIR "/bin/";

std::string model_path(const std::string& name) { return golden_path("models/" + name); }

std::vector<float> values(const Checkpoint& model, const std::string& name) {
  const WeightView v = model.find(name);
  std::vector<float> x(size_t(v.shape.elements()));
  read_elements(v.dtype, v.data, 0, v.shape.elements(), x.data());
  model.release(name);
  return x;
}

std::string bytes(const Checkpoint& model, const std::string& name) {
  const WeightView v = model.find(name);
  std::string s(reinterpret_cast<const char*>(v.data), v.bytes);
  model.release(name);
  return s;
}

std::unique_ptr<LoraCheckpoint> merged(const std::string& model, const std::vector<LoraSpec>& loras, int threads = 1) {
  return std::make_unique<LoraCheckpoint>(open_checkpoint(model), loras, threads);
}

class Models : public ::testing::TestWithParam<const char*> {
 protected:
  bool xl() const { return std::string(GetParam()) == "tiny-sdxl"; }
  TemporaryFolder folder_;
};

TEST_P(Models, MergesAsTheDefinitionSays) {
  const std::unique_ptr<Checkpoint> model = open_checkpoint(model_path(GetParam()));
  const std::vector<LayerChange> a = random_changes(*model, 1, 0.2), b = random_changes(*model, 2, 0.1);
  lora_file(a, naming_schemes(xl())[0]).save(folder_.file("a.safetensors"));
  lora_file(b, naming_schemes(xl())[1]).save(folder_.file("b.safetensors"));
  const float wa = 0.8f, wb = -0.35f;
  const auto both =
      merged(model_path(GetParam()), {{folder_.file("a.safetensors"), wa}, {folder_.file("b.safetensors"), wb}});
  ASSERT_EQ(both->reports().size(), 2u);
  for (const LoraReport& r : both->reports()) {
    EXPECT_EQ(r.applied, a.size());
    EXPECT_EQ(r.layers, a.size());
  }
  for (size_t i = 0; i < a.size(); ++i) {
    const std::string name = a[i].component + "/" + a[i].layer + ".weight";
    const std::vector<float> before = values(*model, name), after = values(*both, name);
    std::vector<double> expected(before.begin(), before.end()), magnitude;
    for (float x : before) magnitude.push_back(2 * std::abs(double(x)));
    merge_in_double(a[i], wa, expected, magnitude);
    merge_in_double(b[i], wb, expected, magnitude);
    double moved = 0;
    for (size_t k = 0; k < after.size(); ++k) {
      const double error = std::abs(double(after[k]) - expected[k]);
      ASSERT_TRUE(error <= 0x1p-24 * 2 * magnitude[k]) << name << " " << k << ": " << after[k] << " " << expected[k];
      moved = std::max(moved, std::abs(double(after[k]) - double(before[k])));
    }
    EXPECT_GT(moved, 0) << name;
  }
  // What no LoRA names stays as it is.
  for (const InventoryEntry& e : model_inventory(*model))
    if (e.shape.rank() == 1 || e.component == "vae") {
      ASSERT_EQ(bytes(*both, e.full()), bytes(*model, e.full())) << e.full();
    }
}

TEST_P(Models, EveryNamingSchemeGivesTheSameBytes) {
  const std::unique_ptr<Checkpoint> model = open_checkpoint(model_path(GetParam()));
  const std::vector<LayerChange> changes = random_changes(*model, 3, 0.3);
  std::vector<std::unique_ptr<LoraCheckpoint>> all;
  for (const NamingScheme& scheme : naming_schemes(xl())) {
    const std::string file = folder_.file(std::to_string(all.size()) + ".safetensors");
    lora_file(changes, scheme, all.size() % 2 ? DType::f16 : DType::bf16).save(file);
    all.push_back(merged(model_path(GetParam()), {{file, 0.7f}}, all.size() == 2 ? 3 : 1));
    EXPECT_EQ(all.back()->reports()[0].applied, changes.size()) << scheme.title;
  }
  for (const LayerChange& c : changes) {
    const std::string name = c.component + "/" + c.layer + ".weight", expected = bytes(*all[0], name);
    EXPECT_NE(expected, bytes(*model, name));
    for (const auto& other : all) ASSERT_EQ(bytes(*other, name), expected) << name;
  }
}
INSTANTIATE_TEST_SUITE_P(Tiny, Models, ::testing::Values("tiny-sd15", "tiny-sd21", "tiny-sdxl"),
                         [](const auto& info) { return std::string(info.param).substr(5); });

// One rounding to the model's own type, no more.
TEST(Lora, ModelsIn16BitStayIn16Bit) {
  TemporaryFolder f;
  const std::unique_ptr<Checkpoint> model = open_checkpoint(model_path("tiny-sd15"));
  const std::vector<LayerChange> changes = random_changes(*model, 4, 0.2);
  lora_file(changes, naming_schemes(false)[0]).save(f.file("a.safetensors"));
  for (const auto& [type, unit] : {std::pair("f16", 0x1p-11), std::pair("bf16", 0x1p-8)}) {
    const std::string sdw = f.file(std::string(type) + ".sdw");
    ASSERT_EQ(run_command(kBin + "sdconvert -q --dtype " + type + " " + model_path("tiny-sd15") + " " + sdw).exit_code,
              0);
    const auto after = merged(sdw, {{f.file("a.safetensors"), 1.0f}});
    for (const LayerChange& c : changes) {
      const std::string name = c.component + "/" + c.layer + ".weight";
      EXPECT_STREQ(dtype_name(after->find(name).dtype), type);
      const std::vector<float> have = values(*after, name), before = values(*model, name);
      std::vector<double> expected(before.begin(), before.end()), magnitude;
      for (float x : before) magnitude.push_back(2 * std::abs(double(x)));
      merge_in_double(c, 1.0, expected, magnitude);
      for (size_t k = 0; k < have.size(); ++k) {
        const double bound = unit * std::abs(expected[k]) + 0x1p-25 + 0x1p-23 * magnitude[k];
        ASSERT_TRUE(std::abs(double(have[k]) - expected[k]) <= bound) << type << " " << name << " " << k;
      }
    }
  }
}

// Names as real files have them, made by loops over the published architectures, on models of full size.
TEST(Lora, AFileOfKohyaForSd15Has264Layers) {
  TemporaryFolder f;
  SafetensorsWriter file;
  const auto add = [&](const std::string& layer, int64_t in, int64_t out) {
    file.add(layer + ".lora_down.weight", DType::f16, {1, in}, std::vector<float>(size_t(in)));
    file.add(layer + ".lora_up.weight", DType::f16, {out, 1}, std::vector<float>(size_t(out)));
    file.add(layer + ".alpha", DType::f16, {}, std::vector<float>{1});
  };
  const auto transformer = [&](const std::string& place, int64_t c) {
    const std::string block = "lora_unet_" + place + "_transformer_blocks_0_";
    add("lora_unet_" + place + "_proj_in", c, c);
    add("lora_unet_" + place + "_proj_out", c, c);
    for (const std::string attention : {"attn1", "attn2"})
      for (const std::string part : {"to_q", "to_k", "to_v", "to_out_0"})
        add(block + attention + "_" + part, attention == "attn2" && (part == "to_k" || part == "to_v") ? 768 : c, c);
    add(block + "ff_net_0_proj", c, 8 * c);
    add(block + "ff_net_2", 4 * c, c);
  };
  const int64_t channels[] = {320, 640, 1280, 1280};
  for (int level = 0; level < 3; ++level)
    for (int i = 0; i < 2; ++i)
      transformer("down_blocks_" + std::to_string(level) + "_attentions_" + std::to_string(i), channels[level]);
  transformer("mid_block_attentions_0", 1280);
  for (int block = 1; block < 4; ++block)
    for (int i = 0; i < 3; ++i)
      transformer("up_blocks_" + std::to_string(block) + "_attentions_" + std::to_string(i), channels[3 - block]);
  for (int layer = 0; layer < 12; ++layer) {
    const std::string place = "lora_te_text_model_encoder_layers_" + std::to_string(layer) + "_";
    for (const char* part : {"q_proj", "k_proj", "v_proj", "out_proj"}) add(place + "self_attn_" + part, 768, 768);
    add(place + "mlp_fc1", 768, 3072);
    add(place + "mlp_fc2", 3072, 768);
  }
  file.save(f.file("a.safetensors"));
  const LoraCheckpoint model(std::make_unique<SyntheticCheckpoint>("sd15"), {{f.file("a.safetensors"), 1.0f}}, 1);
  EXPECT_EQ(model.reports()[0].applied, 264u);
  EXPECT_EQ(model.reports()[0].layers, 264u);
  EXPECT_EQ(error_of([&] {
              LoraCheckpoint(std::make_unique<SyntheticCheckpoint>("sd21"), {{f.file("a.safetensors"), 1.0f}}, 1);
            }).find("3: " + f.file("a.safetensors") + ": lora_"),
            0u);
}

TEST(Lora, NamesOfXlInLdmBlocks) {
  const auto xl = std::make_unique<SyntheticCheckpoint>("sdxl");
  const NameMap ldm = ldm_unet_names(parse_unet_config(xl->required_text("unet/config.json"), "sdxl"));
  std::map<std::string, std::string> names;
  for (const InventoryEntry& e : model_inventory(*xl))
    if (e.name.ends_with(".weight") && e.shape.rank() > 1)
      for (const std::string& alias : lora_layer_names(ldm, e.component, e.name.substr(0, e.name.size() - 7)))
        names[alias] = e.component + "/" + e.name;
  for (const auto& [name, expected] : {
           std::pair("lora_unet_input_blocks_3_0_op", "unet/down_blocks.0.downsamplers.0.conv.weight"),
           std::pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
                     "unet/down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q.weight"),
           std::pair("lora_unet_input_blocks_8_1_transformer_blocks_9_ff_net_0_proj",
                     "unet/down_blocks.2.attentions.1.transformer_blocks.9.ff.net.0.proj.weight"),
           std::pair("lora_unet_middle_block_1_proj_in", "unet/mid_block.attentions.0.proj_in.weight"),
           std::pair("lora_unet_middle_block_2_out_layers_3", "unet/mid_block.resnets.1.conv2.weight"),
           std::pair("lora_unet_output_blocks_0_0_skip_connection", "unet/up_blocks.0.resnets.0.conv_shortcut.weight"),
           std::pair("lora_unet_output_blocks_2_1_transformer_blocks_0_attn2_to_k",
                     "unet/up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_k.weight"),
           std::pair("lora_unet_output_blocks_2_2_conv", "unet/up_blocks.0.upsamplers.0.conv.weight"),
           std::pair("lora_unet_output_blocks_8_0_emb_layers_1", "unet/up_blocks.2.resnets.2.time_emb_proj.weight"),
           std::pair("lora_unet_time_embed_2", "unet/time_embedding.linear_2.weight"),
           std::pair("lora_unet_label_emb_0_0", "unet/add_embedding.linear_1.weight"),
           std::pair("lora_te1_text_model_encoder_layers_11_self_attn_out_proj",
                     "text_encoder/text_model.encoder.layers.11.self_attn.out_proj.weight"),
           std::pair("lora_te2_text_model_encoder_layers_31_mlp_fc2",
                     "text_encoder_2/text_model.encoder.layers.31.mlp.fc2.weight"),
       })
    EXPECT_EQ(names[name], expected) << name;
}

// The Tucker form: down to s numbers, a small convolution of s to r channels, up.
TEST(Lora, LoConWithAMiddlePart) {
  TemporaryFolder f;
  const std::unique_ptr<Checkpoint> model = open_checkpoint(model_path("tiny-sd15"));
  const std::string layer = "down_blocks.0.resnets.0.conv1", weight = "unet/" + layer + ".weight";
  const Shape shape = model->describe(weight).shape;
  const int64_t O = shape[0], I = shape[1], R = 3, S = 2;
  const auto numbers = [](int64_t n, int step) {
    std::vector<float> v;
    for (int64_t i = 0; i < n; ++i) v.push_back(float((i * step) % 17 - 8) / 64);
    return v;
  };
  const std::vector<float> up = numbers(O * R, 5), mid = numbers(R * S * 9, 7), down = numbers(S * I, 11);
  SafetensorsWriter file;
  file.add("lora_unet_down_blocks_0_resnets_0_conv1.lora_up.weight", DType::f32, {O, R, 1, 1}, up);
  file.add("lora_unet_down_blocks_0_resnets_0_conv1.lora_mid.weight", DType::f32, {R, S, 3, 3}, mid);
  file.add("lora_unet_down_blocks_0_resnets_0_conv1.lora_down.weight", DType::f32, {S, I, 1, 1}, down);
  file.save(f.file("a.safetensors"));
  const auto after = merged(model_path("tiny-sd15"), {{f.file("a.safetensors"), 2.0f}});
  const std::vector<float> have = values(*after, weight), before = values(*model, weight);
  for (int64_t o = 0; o < O; ++o)
    for (int64_t i = 0; i < I; ++i)
      for (int64_t t = 0; t < 9; ++t) {
        const size_t at = size_t((o * I + i) * 9 + t);
        double expected = double(before[at]), magnitude = 2 * std::abs(expected);
        for (int64_t r = 0; r < R; ++r)
          for (int64_t s = 0; s < S; ++s) {
            const double term = 2.0 * double(up[size_t(o * R + r)]) * double(mid[size_t((r * S + s) * 9 + t)]) *
                                double(down[size_t(s * I + i)]);
            expected += term;
            magnitude += std::abs(term) * double(R + S + 3);
          }
        ASSERT_TRUE(std::abs(double(have[at]) - expected) <= 0x1p-23 * magnitude) << at;
      }
}

TEST(Lora, TheScalesThatPeftWritesIntoTheMetadata) {
  TemporaryFolder f;
  const std::string layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_";
  const auto scale_of = [&](const std::string& metadata, const std::string& part) {
    SafetensorsWriter file;
    file.add(layer + part + ".lora_A.weight", DType::f32, {4, 16}, std::vector<float>(64));
    file.add(layer + part + ".lora_B.weight", DType::f32, {16, 4}, std::vector<float>(64));
    if (!metadata.empty()) file.set_metadata("lora_adapter_metadata", metadata);
    file.save(f.file("a.safetensors"));
    return LoraFile(f.file("a.safetensors")).layers().begin()->second.scale;
  };
  EXPECT_EQ(scale_of("", "q"), 1.0);
  EXPECT_EQ(scale_of(R"({"unet.lora_alpha": 8, "unet.r": 4})", "q"), 2.0);
  EXPECT_EQ(scale_of(R"({"text_encoder.lora_alpha": 8})", "q"), 1.0);
  EXPECT_EQ(scale_of(R"({"unet.lora_alpha": 8, "unet.use_rslora": true})", "q"), 4.0);
  EXPECT_EQ(scale_of(R"({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_k": 2}})", "k"), 0.5);
  EXPECT_EQ(scale_of(R"({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_k": 2}})", "v"), 2.0);
}

TEST(Lora, Specs) {
  const auto spec = [](const std::string& text) {
    const LoraSpec s = parse_lora_spec(text);
    return s.path + " | " + std::to_string(s.weight).substr(0, 5);
  };
  EXPECT_EQ(spec("a.safetensors"), "a.safetensors | 1.000");
  EXPECT_EQ(spec("a.safetensors:0.8"), "a.safetensors | 0.800");
  EXPECT_EQ(spec("b:c:-1e-1"), "b:c | -0.10");
  EXPECT_EQ(spec("b:c"), "b:c | 1.000");
  EXPECT_EQ(spec("b:"), "b: | 1.000");
  EXPECT_NE(error_of([] { parse_lora_spec("a:nan"); }).find("2: --lora a:nan"), std::string::npos);
  EXPECT_NE(error_of([] { parse_lora_spec(":1"); }).find("2: --lora"), std::string::npos);
  TemporaryFolder f;
  write_file(f.file("a:0.5"), "x");
  EXPECT_EQ(parse_lora_spec(f.file("a:0.5")).path, f.file("a:0.5"));
}

struct Bad {
  const char *name, *message;
  std::function<void(SafetensorsWriter&)> make;
};
class BadFiles : public ::testing::TestWithParam<Bad> {};
TEST_P(BadFiles, AreRefusedInOneLine) {
  TemporaryFolder f;
  SafetensorsWriter file;
  GetParam().make(file);
  file.save(f.file("a.safetensors"));
  const std::string error = error_of([&] {
    const auto model = merged(model_path("tiny-sd15"), {{f.file("a.safetensors"), 1.0f}});
    for (const std::string& name : model->tensors()) model->find(name);
  });
  EXPECT_EQ(error.substr(0, 3), "3: ") << error;
  EXPECT_NE(error.find(GetParam().message), std::string::npos) << error;
  EXPECT_EQ(error.find('\n'), std::string::npos);
}

const std::string kQ = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
void add_part(SafetensorsWriter& w, const std::string& ending, const Shape& shape, float value = 0,
              DType type = DType::f32) {
  w.add(kQ + ending, type, shape, std::vector<float>(size_t(shape.elements()), value));
}
void add_layer(SafetensorsWriter& w, int64_t out = 16, int64_t in = 16, float value = 0) {
  add_part(w, ".lora_up.weight", {out, 4}, value);
  add_part(w, ".lora_down.weight", {4, in}, value);
}
INSTANTIATE_TEST_SUITE_P(
    All, BadFiles,
    ::testing::Values(
        Bad{"empty", "holds no layer", [](SafetensorsWriter& w) { w.set_metadata("a", "b"); }},
        Bad{"loha", "LoHa",
            [](SafetensorsWriter& w) {
              add_part(w, ".hada_w1_a", {4, 4});
            }},
        Bad{"lokr", "LoKr",
            [](SafetensorsWriter& w) {
              add_part(w, ".lokr_w1", {4, 4});
            }},
        Bad{"dora", "DoRA",
            [](SafetensorsWriter& w) {
              add_layer(w), add_part(w, ".dora_scale", {16, 1});
            }},
        Bad{"dora_by_metadata", "DoRA",
            [](SafetensorsWriter& w) {
              add_layer(w), w.set_metadata("lora_adapter_metadata", R"({"unet.use_dora": true})");
            }},
        Bad{"metadata", "no JSON",
            [](SafetensorsWriter& w) { add_layer(w), w.set_metadata("lora_adapter_metadata", "{"); }},
        Bad{"full", "whole differences",
            [](SafetensorsWriter& w) {
              add_part(w, ".diff", {16, 16});
            }},
        Bad{"oft", "OFT",
            [](SafetensorsWriter& w) {
              add_part(w, ".oft_blocks", {4, 4});
            }},
        Bad{"checkpoint", "is no part of a LoRA",
            [](SafetensorsWriter& w) {
              w.add("model.diffusion_model.out.2.bias", DType::f32, {4}, std::vector<float>(4));
            }},
        Bad{"no_up", "has no up part",
            [](SafetensorsWriter& w) {
              add_part(w, ".lora_down.weight", {4, 16});
            }},
        Bad{"no_down", "has no down part",
            [](SafetensorsWriter& w) {
              add_part(w, ".lora_up.weight", {16, 4});
            }},
        Bad{"alpha_alone", "has an alpha and nothing else",
            [](SafetensorsWriter& w) { add_layer(w), w.add("unet.x.alpha", DType::f32, {}, std::vector<float>{1}); }},
        Bad{"two_alphas", "wants one number", [](SafetensorsWriter& w) { add_layer(w), add_part(w, ".alpha", {2}); }},
        Bad{"infinite_alpha", "alpha is inf",
            [](SafetensorsWriter& w) { add_layer(w), add_part(w, ".alpha", {}, INFINITY); }},
        Bad{"ranks", "has rank 3",
            [](SafetensorsWriter& w) {
              add_part(w, ".lora_up.weight", {16, 4}), add_part(w, ".lora_down.weight", {3, 16});
            }},
        Bad{"rank_1_tensor", "wants 2 dimensions",
            [](SafetensorsWriter& w) {
              add_part(w, ".lora_up.weight", {16}), add_part(w, ".lora_down.weight", {1, 16});
            }},
        Bad{"no_elements", "wants 2 dimensions",
            [](SafetensorsWriter& w) {
              add_part(w, ".lora_up.weight", {16, 0}), add_part(w, ".lora_down.weight", {0, 16});
            }},
        Bad{"mid", "do not fit together",
            [](SafetensorsWriter& w) {
              add_layer(w), add_part(w, ".lora_mid.weight", {4, 5, 3, 3});
            }},
        Bad{"twice", "is there twice",
            [](SafetensorsWriter& w) {
              add_layer(w), add_part(w, ".lora_A.weight", {4, 16});
            }},
        Bad{"two_names", "are the same layer",
            [](SafetensorsWriter& w) {
              add_layer(w);
              const std::string same = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_";
              w.add(same + "A.weight", DType::f32, {4, 16}, std::vector<float>(64));
              w.add(same + "B.weight", DType::f32, {16, 4}, std::vector<float>(64));
            }},
        Bad{"another_width", "a LoRA for another family", [](SafetensorsWriter& w) { add_layer(w, 32, 32); }},
        Bad{"another_family", "a LoRA for SD XL",
            [](SafetensorsWriter& w) {
              const std::string k = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_";
              w.add(k + "up.weight", DType::f32, {16, 1}, std::vector<float>(16));
              w.add(k + "down.weight", DType::f32, {1, 2048}, std::vector<float>(2048));
            }},
        Bad{"nothing_of_it", "none of its 1 layers",
            [](SafetensorsWriter& w) {
              w.add("lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight", DType::f32, {4, 1}, std::vector<float>(4));
              w.add("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", DType::f32, {1, 4},
                    std::vector<float>(4));
            }},
        Bad{"not_a_number", "is not finite", [](SafetensorsWriter& w) { add_layer(w, 16, 16, NAN); }},
        Bad{"overflow", "is not finite", [](SafetensorsWriter& w) { add_layer(w, 16, 16, 3e38f); }}),
    [](const auto& info) { return std::string(info.param.name); });

// --- the programs -------------------------------------------------------------------------------------------------------

// The pixels of a picture: what comes after its texts.
std::string pixels(const std::string& path) {
  const std::string png = read_file(path);
  return png.substr(png.find("IDAT"));
}

TEST(LoraPrograms, OneLoraInFiveSchemesIsOnePicture) {
  TemporaryFolder f;
  const std::string model = model_path("tiny-sdxl"), common = "-q -m " + model + " a --steps 1 -W 64 -H 64 ";
  const std::unique_ptr<Checkpoint> base = open_checkpoint(model);
  const std::vector<LayerChange> changes = random_changes(*base, 5, 0.3);
  ASSERT_EQ(run_command(kBin + "sdrun " + common + "-o " + f.file("base.png")).exit_code, 0);
  std::string first;
  for (const NamingScheme& scheme : naming_schemes(true)) {
    lora_file(changes, scheme).save(f.file("a.safetensors"));
    const CommandResult r = run_command(kBin + "sdrun " + common + "--lora-strict --lora " + f.file("a.safetensors") +
                                        ":0.8 -o " + f.file("a.png"));
    ASSERT_EQ(r.exit_code, 0) << r.output;
    if (first.empty()) first = pixels(f.file("a.png"));
    EXPECT_EQ(pixels(f.file("a.png")), first) << scheme.title;
  }
  EXPECT_NE(pixels(f.file("base.png")), first);
  EXPECT_NE(read_file(f.file("a.png")).find("LoRA: \"a:0.8\""), std::string::npos);
  // Baked into a weight file, it gives the same.
  ASSERT_EQ(run_command(kBin + "sdconvert -q " + model + " " + f.file("m.sdw") + " --lora " + f.file("a.safetensors") +
                        ":0.8")
                .exit_code,
            0);
  ASSERT_EQ(
      run_command(kBin + "sdrun -q -m " + f.file("m.sdw") + " a --steps 1 -W 64 -H 64 -o " + f.file("b.png")).exit_code,
      0);
  EXPECT_EQ(pixels(f.file("b.png")), first);
}

TEST(LoraPrograms, SayWhatWasApplied) {
  TemporaryFolder f;
  const std::string model = model_path("tiny-sd15"), common = kBin + "sdrun -m " + model + " a --steps 1 -W 64 -H 64 ";
  const std::unique_ptr<Checkpoint> base = open_checkpoint(model);
  std::vector<LayerChange> changes = random_changes(*base, 6, 0.1);
  const std::string count = std::to_string(changes.size());
  lora_file(changes, naming_schemes(false)[0]).save(f.file("whole.safetensors"));
  changes[0].layer = "text_model.encoder.layers.77.mlp.fc1";
  lora_file(changes, naming_schemes(false)[0]).save(f.file("partial.safetensors"));
  const std::string output = " -o " + f.file("o.png");

  CommandResult r = run_command(common + "--lora " + f.file("whole.safetensors") + ":0.5" + output);
  EXPECT_EQ(r.exit_code, 0);
  EXPECT_NE(r.output.find("applied " + count + " of " + count + ", weight 0.5\n"), std::string::npos) << r.output;

  r = run_command(common + "-q --lora " + f.file("partial.safetensors") + output);
  EXPECT_EQ(r.exit_code, 0);
  EXPECT_NE(r.output.find("warning: 1 of its " + count +
                          " layers are not in this model (lora_te_text_model_encoder_layers_77"),
            std::string::npos)
      << r.output;

  std::filesystem::remove(f.file("o.png"));
  r = run_command(common + "-q --lora-strict --lora " + f.file("partial.safetensors") + output);
  EXPECT_EQ(r.exit_code, 3);
  r = run_command(common + "-q --lora " + f.file("none.safetensors") + output);
  EXPECT_EQ(r.exit_code, 3);
  EXPECT_EQ(std::count(r.output.begin(), r.output.end(), '\n'), 1) << r.output;
  EXPECT_FALSE(std::filesystem::exists(f.file("o.png")));
}

}  // namespace
}  // namespace darkroom::testing

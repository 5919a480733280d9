// Single-file checkpoints: the names, the recognition at true sizes, and that a model is the same model in every layout.
#include "model/single_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "model/convert.h"
#include "model/diffusers_folder.h"
#include "model/inventory.h"
#include "model/ldm_names.h"
#include "model/sdw_checkpoint.h"
#include "model/single_file_export.h"
#include "model/synthetic.h"
#include "runtime/tensor_file.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

using nlohmann::json;

// --- names

UNetConfig unet_of(const std::string& family) {
  return parse_unet_config(*SyntheticCheckpoint(family).text("unet/config.json"), family);
}

TEST(LdmNames, AreThoseOfThePublishedCheckpoints) {
  const NameMap sd15 = ldm_unet_names(unet_of("sd15")), sdxl = ldm_unet_names(unet_of("sdxl"));
  for (const auto& [ours, theirs] : {
           std::pair("conv_in.weight", "input_blocks.0.0.weight"),
           {"time_embedding.linear_2.bias", "time_embed.2.bias"},
           {"down_blocks.0.resnets.1.time_emb_proj.weight", "input_blocks.2.0.emb_layers.1.weight"},
           {"down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight"},
           {"down_blocks.1.resnets.0.conv_shortcut.weight", "input_blocks.4.0.skip_connection.weight"},
           {"down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_out.0.bias",
            "input_blocks.8.1.transformer_blocks.0.attn2.to_out.0.bias"},
           {"down_blocks.3.resnets.1.conv2.weight", "input_blocks.11.0.out_layers.3.weight"},
           {"mid_block.attentions.0.norm.weight", "middle_block.1.norm.weight"},
           {"mid_block.resnets.1.norm2.weight", "middle_block.2.out_layers.0.weight"},
           {"up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"},
           {"up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"},
           {"up_blocks.3.attentions.2.proj_out.weight", "output_blocks.11.1.proj_out.weight"},
           {"conv_norm_out.weight", "out.0.weight"},
           {"conv_out.bias", "out.2.bias"},
       })
    EXPECT_EQ(sd15(ours), theirs) << ours;
  EXPECT_EQ(sdxl("down_blocks.2.attentions.0.transformer_blocks.9.ff.net.0.proj.weight"),
            "input_blocks.7.1.transformer_blocks.9.ff.net.0.proj.weight");
  EXPECT_EQ(sdxl("up_blocks.0.upsamplers.0.conv.weight"), "output_blocks.2.2.conv.weight");
  EXPECT_EQ(sdxl("add_embedding.linear_1.weight"), "label_emb.0.0.weight");
  EXPECT_EQ(sdxl("nothing.like_that"), "");
  // Modules without a leaf, as LoRA files name them.
  EXPECT_EQ(sdxl("down_blocks.1.attentions.0"), "input_blocks.4.1");

  const NameMap vae = ldm_vae_names(VaeConfig{.layers_per_block = 2});
  EXPECT_EQ(vae("decoder.up_blocks.0.resnets.2.conv1.weight"), "decoder.up.3.block.2.conv1.weight");
  EXPECT_EQ(vae("decoder.up_blocks.2.upsamplers.0.conv.bias"), "decoder.up.1.upsample.conv.bias");
  EXPECT_EQ(vae("decoder.up_blocks.2.resnets.0.conv_shortcut.weight"), "decoder.up.1.block.0.nin_shortcut.weight");
  EXPECT_EQ(vae("encoder.down_blocks.1.downsamplers.0.conv.weight"), "encoder.down.1.downsample.conv.weight");
  EXPECT_EQ(vae("encoder.mid_block.attentions.0.to_out.0.weight"), "encoder.mid.attn_1.proj_out.weight");
  EXPECT_EQ(vae("encoder.mid_block.attentions.0.group_norm.bias"), "encoder.mid.attn_1.norm.bias");
  EXPECT_EQ(vae("quant_conv.weight"), "quant_conv.weight");

  const NameMap clip = openclip_names(ClipTextConfig{});
  EXPECT_EQ(clip("text_model.embeddings.position_embedding.weight"), "positional_embedding");
  EXPECT_EQ(clip("text_model.encoder.layers.11.self_attn.k_proj.bias"), "transformer.resblocks.11.attn.in_proj_bias");
  EXPECT_EQ(clip("text_model.encoder.layers.0.mlp.fc2.weight"), "transformer.resblocks.0.mlp.c_proj.weight");
  EXPECT_EQ(clip("text_projection.weight"), "text_projection");
}

// --- recognition at full size: headers of true shapes over files that are one hole

// A model that is its configs.
class ConfigsAlone : public Checkpoint {
 public:
  std::map<std::string, std::string> texts_;
  WeightView find(std::string_view) const override { return {}; }
  void release(std::string_view) const override {}
  std::string where() const override { return "configs"; }
  std::optional<std::string> text(std::string_view name) const override {
    const auto found = texts_.find(std::string(name));
    return found == texts_.end() ? std::nullopt : std::optional(found->second);
  }
  std::vector<std::string> texts() const override { return {}; }
  bool has_component(std::string_view c) const override { return texts_.contains(std::string(c) + "/config.json"); }
  std::vector<std::string> tensors() const override { return {}; }
};

ConfigsAlone configs_of(const std::string& family) {
  ConfigsAlone c;
  const SyntheticCheckpoint published(family);
  for (const std::string& name : published.texts()) c.texts_[name] = published.required_text(name);
  return c;
}

void write_hole(const std::string& path, const std::vector<LdmTensor>& tensors, const std::string& dtype = "F16") {
  json header = json::object();
  uint64_t at = 0;
  for (const LdmTensor& t : tensors) {
    uint64_t bytes = dtype == "F32" ? 4 : 2;
    for (int64_t d : t.shape) bytes *= uint64_t(d);
    header[t.name] = {{"dtype", dtype}, {"shape", t.shape}, {"data_offsets", {at, at + bytes}}};
    at += bytes;
  }
  const std::string begin = safetensors_bytes(header.dump(), "");
  write_file(path, begin);
  ASSERT_EQ(truncate(path.c_str(), off_t(begin.size() + at)), 0);
}

const std::string kMerges = golden_path("models/tiny-sd15/tokenizer/merges.txt");

struct Published {
  const char *name, *family, *says, *edit;  // edit: JSON merged into unet/config.json
  const char* drop = "";                    // a component that is not there
};
class Recognition : public ::testing::TestWithParam<Published> {};
TEST_P(Recognition, AtFullSizeByShapesAlone) {
  const Published& p = GetParam();
  TemporaryFolder folder;
  ConfigsAlone configs = configs_of(p.family);
  json unet = json::parse(configs.texts_["unet/config.json"]);
  unet.update(json::parse(p.edit));
  configs.texts_["unet/config.json"] = unet.dump();
  if (*p.drop) configs.texts_.erase(std::string(p.drop) + "/config.json");
  const std::string path = folder.file("anything.bin");  // the name says nothing
  write_hole(path, ldm_layout(configs));
  CheckpointOptions options;
  options.tokenizer = kMerges;
  const SingleFile file(path, options);
  std::string said;
  for (const std::string& line : file.evidence()) said += line + "\n";
  EXPECT_NE(said.find(p.says), std::string::npos) << said;

  // What the shapes say is what the published config says: the same networks.
  const std::vector<InventoryEntry> wanted = model_inventory(configs), got = model_inventory(file);
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].full(), wanted[i].full());
    EXPECT_EQ(got[i].shape, wanted[i].shape) << got[i].full();
  }
  const UNetConfig a = parse_unet_config(*file.text("unet/config.json"), "file"),
                   b = parse_unet_config(configs.texts_["unet/config.json"], "published");
  EXPECT_EQ(a.num_attention_heads, b.num_attention_heads);
  EXPECT_EQ(a.in_channels, b.in_channels);
  EXPECT_EQ(a.sample_size, b.sample_size);
  EXPECT_EQ(a.time_cond_proj_dim, b.time_cond_proj_dim);
  EXPECT_EQ(a.transformer_layers_per_block.back(), b.transformer_layers_per_block.back());
  const VaeConfig v = parse_vae_config(*file.text("vae/config.json"), "file");
  EXPECT_EQ(v.scaling_factor, parse_vae_config(configs.texts_["vae/config.json"], "published").scaling_factor);
  for (const char* component : {"text_encoder", "text_encoder_2"}) {
    ASSERT_EQ(file.has_component(component), configs.has_component(component)) << component;
    if (!file.has_component(component)) continue;
    const std::string name = std::string(component) + "/config.json";
    const ClipTextConfig x = parse_clip_text_config(*file.text(name), "file"),
                         y = parse_clip_text_config(configs.texts_[name], "published");
    EXPECT_EQ(x.num_attention_heads, y.num_attention_heads);
    EXPECT_EQ(x.num_hidden_layers, y.num_hidden_layers);
    EXPECT_EQ(x.hidden_act, y.hidden_act);
    EXPECT_EQ(x.with_projection, y.with_projection);
  }
  const SchedulerConfig s = parse_scheduler_config(*file.text("scheduler/scheduler_config.json"), "file");
  EXPECT_EQ(s.prediction,
            parse_scheduler_config(configs.texts_["scheduler/scheduler_config.json"], "published").prediction);
}
constexpr const char* kRefiner =
    R"({"block_out_channels": [384, 768, 1536, 1536], "cross_attention_dim": 1280, "attention_head_dim": [6, 12, 24, 24],
        "transformer_layers_per_block": 4, "projection_class_embeddings_input_dim": 2560,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]})";
INSTANTIATE_TEST_SUITE_P(
    All, Recognition,
    ::testing::Values(Published{"sd15", "sd15", "SD 1.x", "{}"}, Published{"sd21", "sd21", "prediction: v", "{}"},
                      Published{"sdxl", "sdxl", "SDXL base", "{}"},
                      Published{"refiner", "sdxl", "SDXL refiner", kRefiner, "text_encoder"},
                      Published{"inpainting", "sd15", "an inpainting model", R"({"in_channels": 9})"},
                      Published{"inpainting2", "sd21", "an inpainting model", R"({"in_channels": 9})"},
                      Published{"lcm", "sd15", "guidance is an input", R"({"time_cond_proj_dim": 256})"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Recognition, PredictionIsAskedForOrReadFromTheFile) {
  TemporaryFolder folder;
  const std::string path = folder.file("m");
  std::vector<LdmTensor> tensors = ldm_layout(configs_of("sd21"));
  write_hole(path, tensors);
  CheckpointOptions options;
  options.tokenizer = kMerges;
  options.prediction = Prediction::epsilon;
  const SingleFile base(path, options);
  EXPECT_EQ(parse_scheduler_config(*base.text("scheduler/scheduler_config.json"), "").prediction, Prediction::epsilon);
  EXPECT_EQ(parse_unet_config(*base.text("unet/config.json"), "").sample_size, 64);  // the 512-pixel base
  tensors = ldm_layout(configs_of("sdxl"));
  tensors.push_back({"v_pred", {1}, {}, false});
  write_hole(path, tensors);
  options.prediction.reset();
  const SingleFile v(path, options);
  EXPECT_EQ(parse_scheduler_config(*v.text("scheduler/scheduler_config.json"), "").prediction, Prediction::v);
}

// --- one model in every layout gives one .sdw file

std::map<std::string, std::string> converted(const Checkpoint& checkpoint, const TemporaryFolder& folder) {
  const std::string path = folder.file("out.sdw");
  convert(checkpoint, path, {});
  const WeightFile file(path);
  std::map<std::string, std::string> tensors;
  for (const WeightFileTensor& t : file.tensors())
    tensors[file.components()[t.component] + "/" + t.name] =
        fmt::format("{} {} {:x}", dtype_name(t.dtype), t.shape.to_string(), t.checksum);
  return tensors;
}

class Layouts : public ::testing::TestWithParam<const char*> {};
TEST_P(Layouts, FolderSafetensorsAndCkptGiveTheSameTensors) {
  TemporaryFolder folder;
  const std::string model = golden_path(std::string("models/") + GetParam());
  const DiffusersFolder source(model);
  const auto expected = converted(source, folder);
  CheckpointOptions options;
  options.tokenizer = options.configs = model;
  for (const char* name : {"m.safetensors", "m.ckpt"}) {
    ASSERT_TRUE(export_single_file(source, folder.file(name), std::nullopt));
    ASSERT_TRUE(is_single_file(folder.file(name)));
    const std::unique_ptr<Checkpoint> single = open_checkpoint(folder.file(name), options);
    EXPECT_EQ(converted(*single, folder), expected) << name;
    // The tokenizer and its padding are the model's.
    EXPECT_EQ(single->text("tokenizer/merges.txt"), source.text("tokenizer/merges.txt"));
  }
}
INSTANTIATE_TEST_SUITE_P(All, Layouts, ::testing::Values("tiny-sd15", "tiny-sd21", "tiny-sdxl"),
                         [](const auto& info) { return std::string(info.param + 5); });

// --- files that are a little different, and files that are wrong

struct Raw {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using Tensors = std::map<std::string, Raw>;

Tensors read_raw(const std::string& path) {
  const Safetensors file(path);
  Tensors all;
  for (const auto& [name, e] : file.entries())
    all[name] = {e.dtype_text, e.shape, std::string(reinterpret_cast<const char*>(file.data(e)), e.bytes)};
  return all;
}

void write_raw(const std::string& path, const Tensors& tensors) {
  json header = json::object();
  std::string data;
  for (const auto& [name, t] : tensors) {
    header[name] = {
        {"dtype", t.dtype}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + t.bytes.size()}}};
    data += t.bytes;
  }
  write_file(path, safetensors_bytes(header.dump(), data));
}

class TinyFile : public ::testing::Test {
 protected:
  TinyFile() {
    export_single_file(DiffusersFolder(model), path, std::nullopt);
    tensors = read_raw(path);
    options.tokenizer = options.configs = model;
    expected = converted(*open_checkpoint(path, options), folder);
  }
  // The tensors' prefix is another one.
  void rename(const std::string& from, const std::string& to) {
    Tensors renamed;
    for (const auto& [name, t] : tensors) renamed[name.starts_with(from) ? to + name.substr(from.size()) : name] = t;
    tensors = renamed;
  }
  std::map<std::string, std::string> result() {
    write_raw(path, tensors);
    return converted(*open_checkpoint(path, options), folder);
  }
  std::string error() {
    write_raw(path, tensors);
    std::filesystem::remove(folder.file("out.sdw"));
    std::string e = error_of([&] { converted(*open_checkpoint(path, options), folder); });
    EXPECT_FALSE(std::filesystem::exists(folder.file("out.sdw")));
    EXPECT_EQ(e.find('\n'), std::string::npos) << e;
    return e;
  }

  TemporaryFolder folder;
  const std::string model = golden_path("models/tiny-sd15"), path = folder.file("m.safetensors");
  CheckpointOptions options;
  Tensors tensors;
  std::map<std::string, std::string> expected;
};

const std::string kNumber(4, '\0');

TEST_F(TinyFile, LeftoversOfTrainingDoNotMatter) {
  tensors["alphas_cumprod"] = {"F32", {1}, kNumber};
  tensors["model_ema.decay"] = {"F32", {1}, kNumber};
  tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = {"I64", {1, 1}, kNumber + kNumber};
  tensors["cond_stage_model.logit_scale"] = {"F32", {}, kNumber};
  tensors["first_stage_model.loss.logvar"] = {"F32", {}, kNumber};
  EXPECT_EQ(result(), expected);
}

TEST_F(TinyFile, NamesOfOtherProgramsDoNotMatter) {
  rename("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.");
  EXPECT_EQ(result(), expected);
  for (const std::string half : {"encoder", "decoder"})
    for (const auto& [old_name, new_name] :
         {std::pair("q", "to_q"), {"k", "to_k"}, {"v", "to_v"}, {"proj_out", "to_out.0"}})
      rename(kLdmVae + half + ".mid.attn_1." + old_name + ".", kLdmVae + half + ".mid.attn_1." + new_name + ".");
  EXPECT_EQ(result(), expected);
}

TEST_F(TinyFile, RunningAveragesOnRequest) {
  // Averages that differ from the weights in one tensor.
  for (const auto& [name, t] : Tensors(tensors))
    if (name.starts_with(kLdmUnet)) {
      std::string flat;
      for (char c : name.substr(std::strlen("model.")))
        if (c != '.') flat += c;
      tensors["model_ema." + flat] = t;
    }
  tensors["model_ema.diffusion_modelout2bias"].bytes = std::string(16, '\0');
  EXPECT_EQ(result(), expected);
  options.ema = true;
  const auto averaged = result();
  for (const auto& [name, what] : expected) EXPECT_EQ(averaged.at(name) == what, name != "unet/conv_out.bias") << name;
}

TEST_F(TinyFile, RefusalsNameWhatIsWrong) {
  const auto with = [&](const std::string& name, const Raw& t) {
    const Tensors before = tensors;
    tensors[name] = t;
    std::string e = error();
    tensors = before;
    return e;
  };
  const auto without = [&](const std::string& prefix) {
    const Tensors before = tensors;
    std::erase_if(tensors, [&](const auto& t) { return t.first.starts_with(prefix); });
    std::string e = error();
    tensors = before;
    return e;
  };
  const auto says = [](const std::string& e, const std::string& part) {
    EXPECT_TRUE(e.starts_with("3: ")) << e;
    EXPECT_NE(e.find(part), std::string::npos) << e << " / " << part;
  };
  const std::string bias = "model.diffusion_model.out.2.bias";
  says(without(bias), "has no tensor " + bias);
  says(without("first_stage_model."), "--vae");
  says(without("cond_stage_model."), "no text encoder");
  says(without("model."), "none of them is model.diffusion_model.*");
  says(with("model.diffusion_model.control.weight", {"F32", {1}, kNumber}),
       "control.weight is a tensor that no network");
  says(with(bias, {"I32", {4}, std::string(16, '\0')}), bias + " is I32");
  says(with(bias, {"F8_E4M3", {4}, kNumber}), bias + " is F8_E4M3");
  says(with(bias, {"F32", {2, 2}, std::string(16, '\0')}), "unet/conv_out.bias is 2x2");
  says(with(bias, {"F32", {1, 1, 1, 1, 4}, std::string(16, '\0')}), "5 dimensions");
  says(with(bias, {"F32", {4}, std::string("\0\0\xc0\x7f", 4) + std::string(12, '\0')}),
       "unet/conv_out.bias holds nan");
  says(with(bias, {"F32", {4}, std::string(12, '\0') + std::string("\0\0\x80\x7f", 4)}), "holds inf at element 3");
  says(with("edm_mean", {"F32", {1}, kNumber}), "EDM");
  options.tokenizer = "";
  says(error(), "a single file carries no tokenizer: name one with --tokenizer");
  options.tokenizer = folder.file("none");
  says(error(), "does not exist");
  options.tokenizer = model;
  options.ema = true;
  says(error(), "has no tensor model_ema.diffusion_model");
}

TEST(SingleFile, OptionsThatOtherLayoutsHaveNoUseFor) {
  CheckpointOptions options;
  options.ema = true;
  const std::string error = error_of([&] { open_checkpoint(golden_path("models/tiny-sd15"), options); });
  EXPECT_TRUE(error.starts_with("2: ")) << error;
}

// A stand-alone autoencoder at full size, in each way in which they are named.
TEST(WithVae, KnowsEveryNamingOfAnAutoencoder) {
  TemporaryFolder folder;
  const ConfigsAlone configs = configs_of("sd15");
  std::vector<LdmTensor> all = ldm_layout(configs), alone;
  const std::string model = folder.file("m"), vae = folder.file("vae");
  write_hole(model, all);
  CheckpointOptions options;
  options.tokenizer = kMerges;
  options.vae = {vae};
  const auto open = [&] { return open_checkpoint(model, options); };
  for (const LdmTensor& t : all)
    if (t.name.starts_with(kLdmVae)) alone.push_back({t.name.substr(std::strlen(kLdmVae)), t.shape, {}, false});
  write_hole(vae, alone, "F32");
  EXPECT_EQ(open()->find("vae/decoder.conv_in.weight").dtype, DType::f32);  // the model's is f16
  EXPECT_EQ(open()->find("unet/conv_in.weight").dtype, DType::f16);
  for (const bool old : {false, true}) {
    std::vector<LdmTensor> named;
    for (const InventoryEntry& e : vae_inventory(parse_vae_config(configs.texts_.at("vae/config.json"), ""))) {
      LdmTensor t{e.name, {}, {}, false};
      for (const auto& [from, to] :
           {std::pair(".to_q.", ".query."), {".to_k.", ".key."}, {".to_v.", ".value."}, {".to_out.0.", ".proj_attn."}})
        if (const size_t at = t.name.find(from); old && at != std::string::npos)
          t.name.replace(at, std::strlen(from), to);
      for (int i = 0; i < e.shape.rank(); ++i) t.shape.push_back(e.shape[i]);
      named.push_back(t);
    }
    write_hole(vae, named, "F32");
    EXPECT_EQ(open()->find("vae/decoder.mid_block.attentions.0.to_out.0.weight").dtype, DType::f32) << old;
  }
  write_hole(vae, {{"x", {1}, {}, false}});
  EXPECT_NE(error_of(open).find("is no autoencoder"), std::string::npos);
}

}  // namespace
}  // namespace darkroom::testing

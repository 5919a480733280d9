// Models of which there is no small golden one, made from a golden's configs and random weights: the SDXL refiner, and an LCM with its
// guidance as an input. Each runs as it is, and from a single file.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "model/clip.h"
#include "model/diffusers_folder.h"
#include "model/pipeline.h"
#include "model/single_file_export.h"
#include "model/unet.h"
#include "model/vae.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tests/support/graph_run.h"
#include "tools/common/image_io.h"

namespace darkroom::testing {
namespace {

using nlohmann::json;

const std::string kBin = DARKROOM_BINARY_DIR "/bin/";

// The texts of a golden model, edited, and random weights of the shapes that follow.
class Made : public Checkpoint {
 public:
  explicit Made(const std::string& golden) {
    const DiffusersFolder folder(golden_path("models/" + golden));
    for (const std::string& name : folder.texts()) texts_[name] = folder.required_text(name);
  }
  void edit(const std::string& name, const json& changes) {
    json config = json::parse(texts_.at(name));
    config.update(changes);
    texts_[name] = config.dump();
  }
  void drop(const std::string& component) {
    std::erase_if(texts_, [&](const auto& t) { return t.first.starts_with(component + "/"); });
  }
  void make_weights() {
    for (const std::string component : {"text_encoder", "text_encoder_2"}) {
      if (!has_component(component)) continue;
      ClipGraphOptions options;
      options.pooled = true;
      weights_.add(
          build_clip(parse_clip_text_config(texts_.at(component + "/config.json"), component), component, options));
    }
    const UNetConfig unet = parse_unet_config(texts_.at("unet/config.json"), "unet");
    weights_.add(build_unet(unet, {1, 8, 8, 77, DType::f32}));
    const VaeConfig vae = parse_vae_config(texts_.at("vae/config.json"), "vae");
    weights_.add(build_vae_decoder(vae, {1, 8, 8, DType::f32}));
    weights_.add(build_vae_encoder(vae, {1, 64, 64, DType::f32}));
  }
  // This weight is zero.
  void silence(const std::string& name) {
    silent_ = name;
    zeros_.assign(weights_.find(name).bytes, std::byte{0});
  }
  // The configs alone, for --config and --tokenizer.
  void write_texts(const std::string& folder) const {
    for (const auto& [name, text] : texts_) {
      std::filesystem::create_directories(std::filesystem::path(folder + "/" + name).parent_path());
      write_file(folder + "/" + name, text);
    }
  }

  WeightView find(std::string_view name) const override {
    WeightView v = weights_.find(name);
    if (name == silent_) v.data = zeros_.data();
    return v;
  }
  void release(std::string_view) const override {}
  std::string where() const override { return "made"; }
  std::optional<std::string> text(std::string_view name) const override {
    const auto found = texts_.find(std::string(name));
    return found == texts_.end() ? std::nullopt : std::optional(found->second);
  }
  std::vector<std::string> texts() const override { return {}; }
  bool has_component(std::string_view c) const override { return texts_.contains(std::string(c) + "/config.json"); }
  std::vector<std::string> tensors() const override { return {}; }

 private:
  std::map<std::string, std::string> texts_;
  NamedWeights weights_;
  std::string silent_;
  std::vector<std::byte> zeros_;
};

struct Ask {
  std::string prompt = "a", negative = "";
  float cfg_scale = 5;
};

std::vector<uint8_t> picture(const Made& made, const Ask& ask) {
  PipelineOptions options;
  options.session.threads = 1;
  Pipeline pipeline(std::make_unique<Made>(made), options);
  Request q;
  q.prompt = ask.prompt;
  q.negative_prompt = ask.negative;
  q.width = q.height = 64;
  q.steps = 2;
  q.sampler = "euler";
  q.cfg_scale = ask.cfg_scale;
  q.seed = 3;
  std::vector<uint8_t> pixels = pipeline.generate(pipeline.resolve(q), {}, nullptr)->pixels;
  EXPECT_GT(*std::ranges::max_element(pixels), *std::ranges::min_element(pixels));
  return pixels;
}

int largest_difference(const std::vector<uint8_t>& a, const std::vector<uint8_t>& b) {
  int largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(int(a[i]) - int(b.at(i))));
  return largest;
}

// The same by the programs, from one file in LDM's layout.
std::vector<uint8_t> picture_of_single_file(const Made& made, const Ask& ask) {
  TemporaryFolder f;
  const std::string file = f.file("m.safetensors"), configs = f.file("configs");
  EXPECT_TRUE(export_single_file(made, file, std::nullopt));
  made.write_texts(configs);
  const CommandResult r = run_command(kBin + "sdrun -q --no-cache -m " + file + " --config " + configs +
                                      " --tokenizer " + configs + " '" + ask.prompt + "' -n '" + ask.negative +
                                      "' -W 64 -H 64 --steps 2 --sampler euler -s 3 --threads 1 --cfg-scale " +
                                      std::to_string(ask.cfg_scale) + " -o " + f.file("o.png"));
  EXPECT_EQ(r.exit_code, 0) << r.output;
  return r.exit_code == 0 ? read_image(f.file("o.png")).pixels : std::vector<uint8_t>();
}

Made refiner() {
  Made m("tiny-sdxl");
  m.drop("text_encoder");
  m.edit("text_encoder_2/config.json", {{"projection_dim", 1280}});
  m.edit(
      "unet/config.json",
      {{"cross_attention_dim", 48}, {"addition_time_embed_dim", 256}, {"projection_class_embeddings_input_dim", 2560}});
  m.edit("model_index.json", {{"force_zeros_for_empty_prompt", false}});
  m.make_weights();
  return m;
}

// With one prompt for both sides nothing but the aesthetic score, 2.5 against 6, tells them apart: guidance has an effect in the
// refiner, and none in the base, which has no score.
TEST(Refiner, IsGuidedByTheAestheticScore) {
  const Made model = refiner();
  const std::vector<uint8_t> one = picture(model, {"a", "a", 1}), guided = picture(model, {"a", "a", 9});
  EXPECT_GE(largest_difference(one, guided), 8);
  EXPECT_NE(guided, picture(model, {"a", "b", 9}));
  Made base("tiny-sdxl");
  base.make_weights();
  EXPECT_LE(largest_difference(picture(base, {"a", "a", 1}), picture(base, {"a", "a", 9})), 1);  // 9a − 8a rounds
}

TEST(Refiner, RunsFromASingleFile) {
  const Made model = refiner();
  const Ask ask{"a", "b", 5};
  EXPECT_EQ(picture_of_single_file(model, ask), picture(model, ask));
}

Made lcm() {
  Made m("tiny-sd15");
  m.edit("unet/config.json", {{"time_cond_proj_dim", 32}});
  m.make_weights();
  return m;
}

// The scale enters by time_embed.cond_proj alone: there is no second, unguided side.
TEST(Lcm, TheGuidanceScaleIsAnInput) {
  Made model = lcm();
  const std::vector<uint8_t> low = picture(model, {"a", "", 1.5f}), high = picture(model, {"a", "", 8.5f});
  EXPECT_NE(low, high);
  EXPECT_EQ(high, picture(model, {"a", "not this", 8.5f}));
  model.silence("unet/time_embedding.cond_proj.weight");
  EXPECT_EQ(picture(model, {"a", "", 1.5f}), picture(model, {"a", "", 8.5f}));
}

TEST(Lcm, RunsFromASingleFile) {
  const Made model = lcm();
  const Ask ask{"a", "", 8.5f};
  EXPECT_EQ(picture_of_single_file(model, ask), picture(model, ask));
}

}  // namespace
}  // namespace darkroom::testing

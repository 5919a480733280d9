// TAESD against PyTorch, by every name that files give to its tensors; and the files that are none.
#include "model/taesd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "model/convert.h"
#include "model/inventory.h"
#include "model/taesd_file.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tests/support/graph_run.h"
#include "tests/support/safetensors_writer.h"

namespace darkroom::testing {
namespace {

const std::string kModel = golden_path("models/tiny-sd15");
const std::string kEncoder = golden_path("taesd/taesd_encoder.safetensors"),
                  kDecoder = golden_path("taesd/taesd_decoder.safetensors");

std::unique_ptr<Checkpoint> open_with(const std::vector<std::string>& vae) {
  CheckpointOptions options;
  options.vae = vae;
  return open_checkpoint(kModel, options);
}

VaeConfig config_of(const Checkpoint& c) { return parse_vae_config(*c.text("vae/config.json"), "test"); }

// [1, C, H, W] of torch as [1, H, W, C].
std::vector<float> nhwc(const std::vector<float>& x, int64_t channels) {
  const int64_t pixels = int64_t(x.size()) / channels;
  std::vector<float> out(x.size());
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t p = 0; p < pixels; ++p) out[size_t(p * channels + c)] = x[size_t(c * pixels + p)];
  return out;
}

double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double error = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    error += std::pow(double(a[i]) - double(b[i]), 2);
    norm += std::pow(double(b[i]), 2);
  }
  return std::sqrt(error / norm);
}

TEST(Taesd, ComputesWhatPyTorchComputes) {
  const std::unique_ptr<Checkpoint> model = open_with({kEncoder, kDecoder});
  const VaeConfig config = config_of(*model);
  EXPECT_EQ(config.num_encoder_blocks, (std::vector<int64_t>{1, 2, 1}));
  EXPECT_EQ(config.num_decoder_blocks, (std::vector<int64_t>{2, 1, 1}));
  EXPECT_EQ(config.factor(), 4);
  EXPECT_EQ(config.scaling_factor, 1.0f);
  const Safetensors golden(golden_path("taesd/outputs.safetensors"));
  for (const auto& [dtype, limit] : {std::pair(DType::f32, 2e-5), {DType::bf16, 3e-2}}) {
    const Named latents = run_graph(build_vae_encoder(config, {1, 24, 16, dtype}), *model,
                                    {{"image", nhwc(tensor(golden, "encode.image"), 3)}});
    EXPECT_LE(relative_l2(latents.at("latents"), nhwc(tensor(golden, "encode.latents"), 4)), limit)
        << dtype_name(dtype);
    std::vector<float> z = nhwc(tensor(golden, "decode.latents"), 4);
    for (float& x : z) x = clamp_taesd_latent(x);
    const Named image = run_graph(build_vae_decoder(config, {1, 5, 7, dtype}), *model, {{"z", z}});
    EXPECT_LE(relative_l2(image.at("image"), nhwc(tensor(golden, "decode.image"), 3)), limit) << dtype_name(dtype);
  }
}

// The tensors of both halves, each by `name(half, layer number as TAESD counts, leaf)`.
template <typename Name>
void write_halves(const std::string& path, Name name, const std::vector<std::string>& halves = {"encoder", "decoder"}) {
  SafetensorsWriter out;
  for (const std::string& half : halves) {
    const Safetensors file(half == "encoder" ? kEncoder : kDecoder);
    for (const auto& [stored, entry] : file.entries()) {
      const size_t dot = stored.find('.');
      Shape shape;
      for (int64_t d : entry.shape) shape.push_back(d);
      out.add(name(half, std::stoi(stored.substr(0, dot)), stored.substr(dot)), DType::f16, shape,
              tensor(file, stored));
    }
  }
  out.save(path);
}

TEST(Taesd, EveryNamingIsTheSame) {
  TemporaryFolder f;
  const std::string path = f.file("vae");
  const std::unique_ptr<Checkpoint> expected = open_with({kDecoder, kEncoder});
  const auto same = [&](int line) {
    SCOPED_TRACE(line);
    const std::unique_ptr<Checkpoint> model = open_with({path});
    const VaeConfig config = config_of(*model);
    EXPECT_EQ(config.num_decoder_blocks, config_of(*expected).num_decoder_blocks);
    for (const InventoryEntry& e : vae_inventory(config)) {
      const WeightView have = model->find(e.full()), wanted = expected->find(e.full());
      ASSERT_EQ(have.shape, e.shape) << e.full();
      std::vector<float> a(size_t(e.shape.elements())), b(a.size());
      read_elements(have.dtype, have.data, 0, e.shape.elements(), a.data());
      read_elements(wanted.dtype, wanted.data, 0, e.shape.elements(), b.data());
      ASSERT_EQ(a, b) << e.full();
    }
  };
  write_halves(path, [](const std::string& half, int n, const std::string& leaf) {
    return half + ".layers." + std::to_string(half == "decoder" ? n - 1 : n) + leaf;
  });
  same(__LINE__);
  write_halves(path, [](const std::string& half, int n, const std::string& leaf) {
    return "taesd_" + half + "." + std::to_string(n) + leaf;
  });
  same(__LINE__);
  write_halves(path, [](const std::string& half, int n, const std::string& leaf) {
    return half + "." + std::to_string(n) + leaf;
  });
  same(__LINE__);
}

TEST(Taesd, ADecoderAloneConverts) {
  TemporaryFolder f;
  const std::unique_ptr<Checkpoint> model = open_with({kDecoder});
  EXPECT_FALSE(config_of(*model).has_encoder());
  ASSERT_TRUE(convert(*model, f.file("m.sdw"), {}));
  const std::unique_ptr<Checkpoint> again = open_checkpoint(f.file("m.sdw"));
  EXPECT_FALSE(config_of(*again).has_encoder());
  EXPECT_EQ(again->find("vae/encoder.layers.0.weight").dtype, DType::none);
  const std::string error = error_of([&] { build_vae_encoder(config_of(*again), {1, 8, 8, DType::f32}); });
  EXPECT_NE(error.find("a decoder alone"), std::string::npos) << error;
}

TEST(Taesd, WhatIsRefused) {
  TemporaryFolder f;
  const std::string path = f.file("vae");
  const auto plain = [](const std::string&, int n, const std::string& leaf) { return std::to_string(n) + leaf; };
  const auto says = [&](const std::vector<std::string>& vae, const std::string& part) {
    const std::string error = error_of([&] { convert(*open_with(vae), f.file("o.sdw"), {}); });
    EXPECT_TRUE(error.starts_with("3: ")) << error;
    EXPECT_NE(error.find(part), std::string::npos) << error << " / " << part;
    EXPECT_FALSE(std::filesystem::exists(f.file("o.sdw")));
  };
  says({kEncoder}, "is a TAESD's encoder alone");
  says({kDecoder, kDecoder}, "has the decoder of a TAESD, and so has");
  says({kModel + "/vae/diffusion_pytorch_model.safetensors", kDecoder}, "is a tensor that no TAESD of SD reads");
  says({kModel + "/vae/diffusion_pytorch_model.safetensors", kModel + "/unet/diffusion_pytorch_model.safetensors"},
       "takes one file, or the two halves of a TAESD");
  says({kEncoder, kDecoder, kModel + "/vae/diffusion_pytorch_model.safetensors"}, "takes one file");

  // A layer that is missing, one too many, one of another shape, latents of another model.
  const auto edited = [&](auto edit) {
    SafetensorsWriter out;
    const Safetensors file(kDecoder);
    for (const auto& [stored, entry] : file.entries()) {
      Shape shape;
      for (int64_t d : entry.shape) shape.push_back(d);
      std::string name = stored;
      edit(name, shape);
      if (!name.empty()) out.add(name, DType::f32, shape, std::vector<float>(size_t(shape.elements())));
    }
    out.save(path);
  };
  edited([](std::string& name, Shape&) {
    if (name == "3.conv.2.bias") name = "";
  });
  says({path}, "has no tensor 3.conv.2.bias");
  edited([](std::string& name, Shape&) {
    if (name.starts_with("3.")) name = "3.pool" + name.substr(1);
  });
  says({path}, "is no autoencoder");
  edited([](std::string& name, Shape&) {
    if (name.starts_with("6.")) name = "6.pool" + name.substr(1);
  });
  says({path}, "its layer 6 is none that belongs there");
  edited([](std::string& name, Shape&) {
    if (name == "1.bias") name = "1.scale";
  });
  says({path}, "has no tensor 1.bias");
  edited([](std::string& name, Shape& shape) {
    if (name == "3.conv.0.weight") shape = Shape{8, 8, 1, 1};
  });
  says({path}, "decoder.layers.2.conv.0.weight is 8x8x1x1, the model wants 8x8x3x3");
  edited([](std::string& name, Shape& shape) {
    if (name == "1.weight") shape = Shape{8, 16, 3, 3};
  });
  says({path}, "has 16 latent channels, the model makes 4");
  write_halves(path, plain, {"decoder"});
  SafetensorsWriter more;
  more.add("vae_scale", DType::f32, {1}, std::vector<float>{2});
  const Safetensors decoder(kDecoder);
  for (const auto& [stored, entry] : decoder.entries()) {
    Shape shape;
    for (int64_t d : entry.shape) shape.push_back(d);
    more.add(stored, DType::f32, shape, tensor(decoder, stored));
  }
  more.save(path);
  says({path}, "vae_scale is a tensor that no TAESD of SD reads");
}

}  // namespace
}  // namespace darkroom::testing

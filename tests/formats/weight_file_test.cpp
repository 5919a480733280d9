// The .sdw file: what goes in comes out, and no damaged byte goes unnoticed.
#include "runtime/weight_file.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "model/convert.h"
#include "model/inventory.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

const std::string kModels[] = {"tiny-sd15", "tiny-sd21", "tiny-sdxl"};

TEST(WeightFile, HoldsTheSameNumbersAsTheFolder) {
  TemporaryFolder folder;
  for (const std::string& model : kModels) {
    const auto source = open_checkpoint(golden_path("models/" + model));
    for (const std::optional<DType> dtype :
         {std::optional<DType>(), std::optional(DType::f16), std::optional(DType::bf16)}) {
      const std::string path = folder.file(model + ".sdw");
      ASSERT_TRUE(convert(*source, path, {dtype, model}));
      const auto file = open_checkpoint(path);
      EXPECT_EQ(file->required_text("unet/config.json"), source->required_text("unet/config.json"));
      for (const InventoryEntry& e : model_inventory(*file)) {
        const WeightView a = source->find(e.full()), b = file->find(e.full());
        ASSERT_EQ(b.dtype, dtype.value_or(a.dtype)) << e.full();
        ASSERT_EQ(reinterpret_cast<uintptr_t>(b.data) % kWeightAlignment, 0u) << e.full();
        for (int64_t i = 0; i < e.shape.elements(); ++i) {
          float x = 0;
          std::memcpy(&x, a.data + i * 4, 4);  // the folders hold f32, every number exact in 16 bits
          const float y = b.dtype == DType::f32   ? reinterpret_cast<const float*>(b.data)[i]
                          : b.dtype == DType::f16 ? to_float(reinterpret_cast<const f16_t*>(b.data)[i])
                                                  : to_float(reinterpret_cast<const bf16_t*>(b.data)[i]);
          ASSERT_EQ(x, y) << e.full() << " " << i;
        }
      }
      const WeightFile raw(path);
      for (const WeightFileTensor& t : raw.tensors()) raw.verify(t);
    }
  }
}

std::string small_file(const TemporaryFolder& folder) {
  std::string path = folder.file("small.sdw");
  WeightFileWriter writer(path);
  writer.add_text("unet/config.json", "{}");
  writer.add_tensor("unet", "a", DType::f32, {3, 5});
  writer.add_tensor("unet", "b", DType::f16, {7});
  writer.add_tensor("vae", "a", DType::bf16, {2, 2, 2, 2});
  writer.begin();
  const std::vector<std::byte> data(60, std::byte{1});
  writer.write(data.data(), 24);  // in pieces
  writer.write(data.data(), 36);
  writer.write(data.data(), 14);
  writer.write(data.data(), 32);
  writer.commit();
  return path;
}

// Any byte that says something is missed by no check: opening fails, or verify() does.
TEST(WeightFile, EveryDamagedByteIsFound) {
  TemporaryFolder folder;
  const std::string good = read_file(small_file(folder)), path = folder.file("damaged.sdw");
  std::vector<bool> padding(good.size(), true);
  {
    write_file(path, good);
    const WeightFile file(path);
    const auto says = [&](size_t from, size_t bytes) {
      std::fill_n(padding.begin() + std::ptrdiff_t(from), bytes, false);
    };
    uint64_t first = good.size();
    for (const WeightFileTensor& t : file.tensors()) {
      says(t.offset, t.bytes);
      first = std::min(first, t.offset);
    }
    const size_t directory = 256 + 2 * 64 + 3 * 128 + 64 + std::strlen("unetvaeabaunet/config.json") + 2;
    says(0, directory);
    says(good.size() - 64, 64);
  }
  std::mt19937 random(1);
  int tried = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    if (padding[i]) continue;
    std::string bad = good;
    bad[i] = char(bad[i] ^ (1 << (random() % 8)));
    write_file(path, bad);
    const std::string error = error_of([&] {
      const WeightFile file(path);
      for (const WeightFileTensor& t : file.tensors()) file.verify(t);
    });
    ASSERT_TRUE(error.starts_with("3: " + path)) << "byte " << i << ": " << error;
    ++tried;
  }
  EXPECT_GT(tried, 900);
}

TEST(WeightFile, EveryTruncationIsFound) {
  TemporaryFolder folder;
  const std::string good = read_file(small_file(folder)), path = folder.file("cut.sdw");
  for (size_t n = 0; n < good.size(); n += n < 1024 ? 1 : 97) {
    write_file(path, good.substr(0, n));
    EXPECT_TRUE(error_of([&] { WeightFile file(path); }).starts_with("3: ")) << n;
  }
  write_file(path, good + "x");
  EXPECT_NE(error_of([&] { WeightFile file(path); }).find("appended"), std::string::npos);
}

TEST(WeightFile, AnUnfinishedOneLeavesNothing) {
  TemporaryFolder folder;
  {
    WeightFileWriter writer(folder.file("never.sdw"));
    writer.add_tensor("unet", "a", DType::f32, {1000});
    writer.begin();
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// A copy of a small model with one file changed.
class ChangedModel : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::copy(golden_path("models/tiny-sd15"), folder_.file("model"),
                          std::filesystem::copy_options::recursive);
  }
  std::string convert_error(std::optional<DType> dtype = std::nullopt) {
    std::string error = error_of([&] {
      convert(*open_checkpoint(folder_.file("model")), folder_.file("out.sdw"), {dtype, "x"});
    });
    EXPECT_FALSE(std::filesystem::exists(folder_.file("out.sdw")));
    return error;
  }
  void edit(const std::string& name, const std::function<void(std::string&)>& change) {
    std::string text = read_file(folder_.file("model/" + name));
    change(text);
    write_file(folder_.file("model/" + name), text);
  }
  // Sets the first number of a tensor.
  void poison(const std::string& tensor, float value) {
    const std::string file = folder_.file("model/unet/diffusion_pytorch_model.safetensors");
    const size_t offset = Safetensors(file).find(tensor)->offset;
    edit("unet/diffusion_pytorch_model.safetensors",
         [&](std::string& bytes) { std::memcpy(bytes.data() + offset, &value, 4); });
  }
  static void replace(std::string& text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  }
  TemporaryFolder folder_;
};

TEST_F(ChangedModel, NumbersThatAreNone) {
  poison("conv_in.bias", NAN);
  EXPECT_NE(convert_error().find("unet/conv_in.bias holds nan at element 0"), std::string::npos);
}
TEST_F(ChangedModel, NumbersThatF16CannotHold) {
  poison("conv_in.bias", 1e6f);
  EXPECT_NE(convert_error(DType::f16).find("conv_in.bias"), std::string::npos);
  EXPECT_TRUE(convert(*open_checkpoint(folder_.file("model")), folder_.file("ok.sdw"), {DType::bf16, "x"}));
}
TEST_F(ChangedModel, ConfigurationsThatAreNotImplemented) {
  edit("unet/config.json",
       [](std::string& t) { replace(t, "\"center_input_sample\": false", "\"center_input_sample\": true"); });
  EXPECT_NE(convert_error().find("center_input_sample is true"), std::string::npos);
}
TEST_F(ChangedModel, SettingsThatNobodyKnows) {
  edit("vae/config.json", [](std::string& t) { replace(t, "{", "{\"new_setting\": 3,"); });
  EXPECT_NE(convert_error().find("new_setting = 3"), std::string::npos);
}
TEST_F(ChangedModel, BracketsWithoutEnd) {
  const std::string deep(300'000, '[');
  write_file(folder_.file("model/vae/config.json"), "{\"act_fn\": " + deep);
  EXPECT_NE(convert_error().find("vae/config.json: JSON with more than 32 brackets"), std::string::npos);
}
TEST_F(ChangedModel, ObjectsWithoutNumber) {
  // Looked through once: work that grows with the square of 300,000 would take minutes.
  std::string many = "{}";
  for (int i = 1; i < 300'000; ++i) many += ",{}";
  write_file(folder_.file("model/vae/config.json"), "{\"in_channels\": [" + many + "]}");
  const std::string error = convert_error();
  EXPECT_NE(error.find("vae/config.json: in_channels is [{},{},"), std::string::npos) << error.substr(0, 300);
  EXPECT_LT(error.size(), 300u);
}
TEST_F(ChangedModel, ShapesThatDoNotFit) {
  edit("unet/config.json",
       [](std::string& t) { replace(t, "\"cross_attention_dim\": 32", "\"cross_attention_dim\": 40"); });
  EXPECT_NE(convert_error().find("the model wants"), std::string::npos);
}
TEST_F(ChangedModel, TensorsThatAreMissing) {
  edit("unet/diffusion_pytorch_model.safetensors",
       [](std::string& t) { replace(t, "\"conv_in.bias\"", "\"conv_in.bixs\""); });
  EXPECT_NE(convert_error().find("has no tensor unet/conv_in.bias"), std::string::npos);
}
TEST_F(ChangedModel, TensorsThatNobodyReads) {
  edit("unet/config.json", [](std::string& t) { replace(t, "\"CrossAttnDownBlock2D\"", "\"DownBlock2D\""); });
  EXPECT_NE(convert_error().find("no network of this configuration reads"), std::string::npos);
}
TEST_F(ChangedModel, ComponentsThatAreMissing) {
  std::filesystem::remove_all(folder_.file("model/vae"));
  EXPECT_NE(convert_error().find("has no vae"), std::string::npos);
}
TEST_F(ChangedModel, Fp16VariantsAndShardsAreRead) {
  const std::string unet = folder_.file("model/unet/"), name = "diffusion_pytorch_model";
  std::filesystem::rename(unet + name + ".safetensors", unet + name + ".fp16.safetensors");
  EXPECT_TRUE(convert(*open_checkpoint(folder_.file("model")), folder_.file("a.sdw"), {std::nullopt, "x"}));
  std::filesystem::rename(unet + name + ".fp16.safetensors", unet + name + "-00001-of-00001.safetensors");
  std::string map;
  const Safetensors shard(unet + name + "-00001-of-00001.safetensors");
  for (const auto& [tensor, entry] : shard.entries())
    map += fmt::format("{}\"{}\":\"{}-00001-of-00001.safetensors\"", map.empty() ? "" : ",", tensor, name);
  write_file(unet + name + ".safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  EXPECT_TRUE(convert(*open_checkpoint(folder_.file("model")), folder_.file("b.sdw"), {std::nullopt, "x"}));
  EXPECT_EQ(read_file(folder_.file("a.sdw")), read_file(folder_.file("b.sdw")));
}
TEST_F(ChangedModel, ShardsThatAreMissingOrLieElsewhere) {
  const std::string unet = folder_.file("model/unet/"), name = "diffusion_pytorch_model";
  std::filesystem::rename(unet + name + ".safetensors", unet + "one.safetensors");
  std::filesystem::copy_file(unet + "one.safetensors", folder_.file("model/outside.safetensors"));
  const auto error = [&](const std::string& index) {
    write_file(unet + name + ".safetensors.index.json", index);
    const std::string e = convert_error();
    EXPECT_TRUE(e.starts_with("3: " + unet)) << e;
    EXPECT_EQ(e.find('\n'), std::string::npos) << e;
    return e.substr(std::min(e.size(), 3 + unet.size()));
  };
  const auto one = [&](const std::string& shard) {
    return error(R"({"weight_map":{"conv_in.bias":"one.safetensors","conv_in.weight":)" + shard + "}}");
  };
  EXPECT_EQ(one("\"two.safetensors\""), "two.safetensors: No such file or directory");
  for (const char* shard : {"\"../outside.safetensors\"", "\"/etc/passwd\"", "\"./one.safetensors\"", "3", "null",
                            "[\"one.safetensors\"]", "\"a\\u0000b\"", "\"\"", "\"..\"", "\".\""})
    EXPECT_NE(one(shard).find("which is no file name"), std::string::npos) << shard << ": " << one(shard);
  EXPECT_NE(error(R"({"weight_map":{"conv_in.weight":"one.safetensors","more.weight":"one.safetensors"}})")
                .find("promises more.weight"),
            std::string::npos);
  for (const char* index : {"{}", "[]", "3", R"({"weight_map": []})", R"({"weight_map": "one.safetensors"})"})
    EXPECT_NE(error(index).find("has no weight_map"), std::string::npos) << index;
  EXPECT_NE(error("{\"weight_map\":").find("JSON"), std::string::npos);
  // A tensor in two shards.
  std::filesystem::copy_file(unet + "one.safetensors", unet + "two.safetensors");
  EXPECT_NE(one("\"two.safetensors\"").find("is in another file of the component too"), std::string::npos);
}

}  // namespace
}  // namespace darkroom::testing

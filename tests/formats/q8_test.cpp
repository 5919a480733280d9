// q8: no weight is off by more than half of its block's scale, wherever the block ends; and a damaged file is refused.
#include "runtime/q8.h"

#define XXH_INLINE_ALL
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <random>

#include "model/convert.h"
#include "model/inventory.h"
#include "model/sdw_checkpoint.h"
#include "runtime/weight_file_layout.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

const std::string kBin = DARKROOM_BINARY_DIR "/bin/";

// The largest scale that a block may have: its largest weight / 127, rounded up to an f16.
double largest_scale(double largest) { return largest / 127 * (1 + 0x1p-10) + 0x1p-24; }

TEST(Q8, EveryWeightIsWithinHalfAScale) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const int64_t inputs : {1, 31, 32, 33, 64, 77, 320})
    for (const int64_t taps : {1, 9})
      for (const float size : {1.0f, 1e-9f, 3e-7f, 1e-4f, 500.0f, 10000.0f, 0.0f}) {
        const Q8Layout layout{1, inputs, taps};
        std::vector<float> weights(size_t(inputs * taps)), back(weights.size(), NAN);
        for (float& w : weights) w = size * normal(random);
        std::vector<int8_t> values(weights.size() + 1, 99);
        std::vector<f16_t> scales(size_t(taps * layout.blocks()) + 1, f16_t{0x1234});
        ASSERT_TRUE(q8_quantise(layout, weights.data(), values.data(), scales.data()));
        EXPECT_EQ(values.back(), 99);
        EXPECT_EQ(scales.back().bits, 0x1234);
        q8_dequantise(layout, values.data(), scales.data(), back.data());
        for (int64_t t = 0; t < taps; ++t)
          for (int64_t i = 0; i < inputs; ++i) {
            // By the format's description, not by the layout's functions.
            const int64_t block = t * ((inputs + 31) / 32) + i / 32;
            const double scale = double(to_float(scales[size_t(block)])), w = double(weights[size_t(i * taps + t)]);
            double largest = 0;
            for (int64_t k = i / 32 * 32; k < std::min(i / 32 * 32 + 32, inputs); ++k)
              largest = std::max(largest, std::abs(double(weights[size_t(k * taps + t)])));
            const double q = double(values[size_t(t * inputs + i)]) * scale;
            ASSERT_EQ(float(q), back[size_t(i * taps + t)]);
            ASSERT_TRUE(std::abs(q - w) <= scale / 2 * (1 + 0x1p-20))
                << inputs << " " << taps << " " << size << ": " << w;
            ASSERT_TRUE(scale <= largest_scale(largest) && scale * 127 >= largest * (1 - 0x1p-23))
                << scale << " " << largest;
          }
      }
}

TEST(Q8, RefusesWhatF16CannotHold) {
  const Q8Layout layout{1, 40, 1};
  for (const float bad : {65500.0f, -1e9f, INFINITY, NAN}) {
    std::vector<float> weights(40, 1.0f);
    weights[37] = bad;
    int8_t values[40];
    f16_t scales[2];
    EXPECT_FALSE(q8_quantise(layout, weights.data(), values, scales)) << bad;
  }
}

class Models : public ::testing::TestWithParam<const char*> {};
TEST_P(Models, WeightsAndOthers) {
  TemporaryFolder f;
  const auto source = open_checkpoint(golden_path(std::string("models/") + GetParam()));
  std::vector<QuantisedClass> report;
  ConvertOptions options{DType::f16, "x"};
  options.q8 = true;
  options.report = &report;
  ASSERT_TRUE(convert(*source, f.file("a.sdw"), options));
  const SdwCheckpoint model(f.file("a.sdw"));
  const WeightFile raw(f.file("a.sdw"));
  size_t quantised = 0;
  for (const InventoryEntry& e : model_inventory(*source)) {
    const WeightFileTensor& t = *raw.find(e.full());
    raw.verify(t);
    const bool q8 = e.shape.rank() > 1 && e.shape[1] >= 32 && e.name.find("embeddings.") == std::string::npos;
    ASSERT_EQ(t.encoding == WeightEncoding::q8, q8) << e.full();
    ASSERT_EQ(t.dtype, DType::f16);
    quantised += q8;
    const WeightView before = source->find(e.full()), described = model.describe(e.full()),
                     after = model.find(e.full());
    ASSERT_EQ(after.dtype, DType::f16);
    ASSERT_EQ(described.dtype, DType::f16);
    ASSERT_TRUE(after.shape == e.shape && described.shape == e.shape);
    ASSERT_EQ(after.bytes, size_t(e.shape.elements()) * 2);
    std::vector<float> x(size_t(e.shape.elements())), y(x.size());
    read_elements(before.dtype, before.data, 0, e.shape.elements(), x.data());
    read_elements(after.dtype, after.data, 0, e.shape.elements(), y.data());
    // With 32 inputs or more in these models, the tensor's largest bounds every block's.
    double largest = 0;
    for (float v : x) largest = std::max(largest, std::abs(double(v)));
    for (size_t i = 0; i < x.size(); ++i) {
      const double bound =
          q8 ? largest_scale(largest) / 2 + 0x1p-11 * largest : 0;  // the folders' numbers are exact in f16
      ASSERT_TRUE(std::abs(double(y[i]) - double(x[i])) <= bound) << e.full() << " " << i;
    }
    model.release(e.full());
  }
  size_t reported = 0;
  for (const QuantisedClass& c : report) {
    reported += c.tensors;
    EXPECT_GT(c.relative_rms, 0) << c.name;
    EXPECT_LT(c.relative_rms, 0.02) << c.name;
    EXPECT_LE(c.largest, 0.5 / 127 * (1 + 0x1p-9)) << c.name;
    EXPECT_LT(double(c.bytes), 0.6 * 2 * double(c.elements)) << c.name;
  }
  EXPECT_EQ(reported, quantised);
  EXPECT_GT(quantised, 100u);
  // Back to f16: what the q8 file gives.
  ASSERT_TRUE(convert(model, f.file("b.sdw"), {std::nullopt, "x"}));
  const SdwCheckpoint back(f.file("b.sdw"));
  for (const InventoryEntry& e : model_inventory(*source)) {
    const WeightView a = model.find(e.full()), b = back.find(e.full());
    ASSERT_EQ(std::memcmp(a.data, b.data, a.bytes), 0) << e.full();
  }
}
INSTANTIATE_TEST_SUITE_P(Tiny, Models, ::testing::Values("tiny-sd15", "tiny-sd21", "tiny-sdxl"),
                         [](const auto& info) { return std::string(info.param).substr(5); });

TEST(Q8, ThePrograms) {
  TemporaryFolder f;
  const std::string model = golden_path("models/tiny-sd15"), sdw = f.file("a.sdw");
  const CommandResult r = run_command(kBin + "sdconvert " + model + " " + sdw + " --dtype q8");
  ASSERT_EQ(r.exit_code, 0) << r.output;
  for (const char* row : {"rms error", "unet linear", "unet conv 3x3", "text_encoder linear", "vae conv 3x3"})
    EXPECT_NE(r.output.find(row), std::string::npos) << r.output;
  EXPECT_EQ(run_command(kBin + "sdconvert verify " + sdw).exit_code, 0);
  EXPECT_NE(run_command(kBin + "sdconvert inspect " + sdw).output.find("f16, q8"), std::string::npos);
  EXPECT_NE(run_command(kBin + "sdconvert inspect --json " + sdw).output.find("\"dtype\": \"q8\""), std::string::npos);
  for (const char* dtype : {"f32", "bf16"})
    EXPECT_EQ(run_command(kBin + "sdrun -q -m " + sdw + " a --steps 1 -W 64 -H 64 --dtype " + dtype + " -o " +
                          f.file("a.png"))
                  .exit_code,
              0);
}

// A file with one q8 tensor of [3, 40], and its header.
struct SmallFile {
  TemporaryFolder folder;
  std::string path = folder.file("a.sdw"), bytes;

  explicit SmallFile(f16_t scale = to_f16(0.5f)) {
    {
      WeightFileWriter writer(path);
      writer.add_tensor("unet", "q", DType::f16, {3, 40}, WeightEncoding::q8);
      writer.begin();
      std::vector<int8_t> values(128, 0);  // 120 of them, then zeros
      for (size_t i = 0; i < 120; ++i) values[i] = int8_t(int(i) - 60);
      writer.write(values.data(), values.size());
      const std::vector<f16_t> scales(6, scale);
      writer.write(scales.data(), scales.size() * 2);
      writer.commit();
    }
    bytes = read_file(path);
  }
  sdw::Tensor tensor() const {
    sdw::Tensor t;
    std::memcpy(&t, bytes.data() + sizeof(sdw::Header) + sizeof(sdw::Component), sizeof(t));
    return t;
  }
  // Opens it with changed records, and checksums that are right again.
  std::string error(const std::function<void(sdw::Header&, sdw::Tensor&)>& change) {
    sdw::Header h;
    sdw::Tensor t = tensor();
    std::memcpy(&h, bytes.data(), sizeof(h));
    change(h, t);
    std::string changed = bytes;
    std::memcpy(changed.data() + sizeof(h) + sizeof(sdw::Component), &t, sizeof(t));
    h.directory_checksum = XXH3_64bits(changed.data() + h.directory_offset, h.directory_bytes);
    h.checksum = XXH3_64bits(&h, sizeof(h) - 8);
    std::memcpy(changed.data(), &h, sizeof(h));
    sdw::Trailer end;
    std::memcpy(&end, changed.data() + changed.size() - sizeof(end), sizeof(end));
    end.directory_checksum = h.directory_checksum;
    end.checksum = XXH3_64bits(&end, sizeof(end) - 8);
    std::memcpy(changed.data() + changed.size() - sizeof(end), &end, sizeof(end));
    write_file(path, changed);
    return error_of([&] { SdwCheckpoint(path).find("unet/q"); });
  }
};

TEST(Q8, TheFileSaysWhatItIs) {
  SmallFile f;
  EXPECT_EQ(f.tensor().bytes, 128u + 6 * 2);
  EXPECT_EQ(f.tensor().block_elements, 32u);
  EXPECT_EQ(f.tensor().block_bytes, 34u);
  EXPECT_EQ(f.error([](sdw::Header& h, sdw::Tensor&) { EXPECT_EQ(h.features, 1u); }), "");
  const SdwCheckpoint model(f.path);
  const WeightView v = model.find("unet/q");
  for (int i = 0; i < 120; ++i) EXPECT_EQ(to_float(reinterpret_cast<const f16_t*>(v.data)[i]), 0.5f * float(i - 60));
}

TEST(Q8, RecordsThatLie) {
  SmallFile f;
  const auto expect = [&](const char* message, const std::function<void(sdw::Header&, sdw::Tensor&)>& change) {
    const std::string error = f.error(change);
    EXPECT_TRUE(error.starts_with("3: " + f.path)) << error;
    EXPECT_NE(error.find(message), std::string::npos) << error;
  };
  expect("features say that nothing is", [](sdw::Header& h, sdw::Tensor&) { h.features = 0; });
  expect("needs features", [](sdw::Header& h, sdw::Tensor&) { h.features = 3; });
  expect("encoding 2 is not implemented", [](sdw::Header&, sdw::Tensor& t) { t.encoding = 2; });
  expect("type 1 is not implemented", [](sdw::Header&, sdw::Tensor& t) { t.dtype = 1; });
  expect("record is not valid", [](sdw::Header&, sdw::Tensor& t) { t.block_elements = 64; });
  expect("record is not valid", [](sdw::Header&, sdw::Tensor& t) { t.block_bytes = 2; });
  expect("record is not valid", [](sdw::Header&, sdw::Tensor& t) { t.rank = 1, t.shape[0] = 120, t.shape[1] = 1; });
  expect("record is not valid", [](sdw::Header&, sdw::Tensor& t) { t.rank = 3; });
  expect("its shape 3x65 takes", [](sdw::Header&, sdw::Tensor& t) { t.shape[1] = 65; });
  expect("its shape is not valid", [](sdw::Header&, sdw::Tensor& t) { t.shape[1] = uint64_t(1) << 62; });
  expect("has 120 bytes", [](sdw::Header&, sdw::Tensor& t) { t.bytes = 120; });
}

TEST(Q8, DamageIsFound) {
  SmallFile f;
  const sdw::Tensor t = f.tensor();
  for (uint64_t i = t.offset; i < t.offset + t.bytes; ++i) {
    std::string bad = f.bytes;
    bad[i] = char(bad[i] ^ 4);
    write_file(f.path, bad);
    const WeightFile file(f.path);
    EXPECT_NE(error_of([&] { file.verify(file.tensors()[0]); }).find("unet/q"), std::string::npos) << i;
  }
  SmallFile infinite(f16_t{0x7c00});
  EXPECT_NE(
      error_of([&] { SdwCheckpoint(infinite.path).find("unet/q"); }).find("unet/q has a scale that is not finite"),
      std::string::npos);
}

}  // namespace
}  // namespace darkroom::testing

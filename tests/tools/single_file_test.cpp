// Single-file checkpoints as people use them: sdconvert, and sdrun by way of its cache.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

namespace fs = std::filesystem;

const std::string kBin = DARKROOM_BINARY_DIR "/bin/";
const std::string kModel = golden_path("models/tiny-sd15");
const std::string kHow = " --tokenizer " + kModel + " --config " + kModel;

// From the picture's first pixel on: before it stands the model's name.
std::string pixels(const std::string& png) {
  const std::string s = read_file(png);
  return s.substr(s.find("IDAT"));
}

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++n;
  return n;
}

class SingleFileRun : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(run_command(kBin + "sdconvert -q " + kModel + " " + file).exit_code, 0);
    ASSERT_EQ(run_command(kBin + "sdrun -q -m " + kModel + kPrompt + f.file("folder.png")).exit_code, 0);
  }
  std::string command(const std::string& model, const std::string& arguments, const std::string& png) const {
    return "DARKROOM_CACHE=" + cache + " " + kBin + "sdrun -q -m " + model + kHow + " " + arguments + kPrompt +
           f.file(png);
  }
  size_t cached() const {
    size_t n = 0;
    for (const auto& entry : fs::directory_iterator(cache)) n += entry.path().extension() == ".sdw";
    return n;
  }

  const std::string kPrompt = " a --steps 2 -W 64 -H 64 -o ";
  TemporaryFolder f;
  const std::string file = f.file("m.safetensors"), cache = f.file("cache");
};

TEST_F(SingleFileRun, IsConvertedOnceAndGivesTheFoldersPicture) {
  const CommandResult first = run_command(command(file, "", "one.png"));
  ASSERT_EQ(first.exit_code, 0) << first.output;
  EXPECT_NE(first.output.find("SD 1.x, recognised"), std::string::npos) << first.output;
  EXPECT_EQ(count(first.output, "converting once"), 1u) << first.output;
  EXPECT_EQ(pixels(f.file("one.png")), pixels(f.file("folder.png")));
  const CommandResult second = run_command(command(file, "", "two.png"));
  ASSERT_EQ(second.exit_code, 0) << second.output;
  EXPECT_EQ(count(second.output, "converting"), 0u) << second.output;
  EXPECT_EQ(pixels(f.file("two.png")), pixels(f.file("folder.png")));
  EXPECT_EQ(cached(), 1u);
  // The same bytes elsewhere are the same model; another prediction is another one.
  fs::copy_file(file, f.file("copy.ckpt"));
  EXPECT_EQ(count(run_command(command(f.file("copy.ckpt"), "", "three.png")).output, "converting"), 0u);
  EXPECT_EQ(count(run_command(command(file, "--prediction v", "four.png")).output, "converting once"), 1u);
  EXPECT_EQ(cached(), 2u);
}

TEST_F(SingleFileRun, TwoAtTheSameTimeConvertOnce) {
  const CommandResult both =
      run_command("{ " + command(file, "", "a.png") + " & " + command(file, "", "b.png") + "; wait; }");
  EXPECT_EQ(count(both.output, "converting once"), 1u) << both.output;
  EXPECT_EQ(pixels(f.file("a.png")), pixels(f.file("folder.png")));
  EXPECT_EQ(pixels(f.file("b.png")), pixels(f.file("folder.png")));
  for (const auto& entry : fs::directory_iterator(cache))
    EXPECT_TRUE(entry.path().extension() == ".sdw" || entry.path().extension() == ".lock" ||
                entry.path().extension() == ".hash")
        << entry.path();
}

TEST_F(SingleFileRun, WithoutACacheNothingIsWritten) {
  const CommandResult r = run_command(command(file, "--no-cache", "a.png"));
  ASSERT_EQ(r.exit_code, 0) << r.output;
  EXPECT_EQ(pixels(f.file("a.png")), pixels(f.file("folder.png")));
  EXPECT_FALSE(fs::exists(cache));
}

TEST_F(SingleFileRun, TheCacheKeepsToItsLimit) {
  ASSERT_EQ(run_command(command(file, "", "a.png")).exit_code, 0);
  const double gib = double(fs::file_size(file)) / double(1 << 30);
  const CommandResult small =
      run_command(command(file, "--prediction v --cache-limit " + std::to_string(gib / 2), "b.png"));
  EXPECT_EQ(small.exit_code, 4) << small.output;
  EXPECT_EQ(cached(), 1u);
  // Room for one: the other goes.
  const CommandResult one =
      run_command(command(file, "--prediction v --cache-limit " + std::to_string(gib * 1.5), "c.png"));
  ASSERT_EQ(one.exit_code, 0) << one.output;
  EXPECT_NE(one.output.find("was not used for longest"), std::string::npos) << one.output;
  EXPECT_EQ(cached(), 1u);
  EXPECT_EQ(count(run_command(command(file, "", "d.png")).output, "converting once"), 1u);
}

TEST_F(SingleFileRun, RefusalsAreOneLineAndWriteNothing) {
  const std::string bytes = read_file(file), bad = f.file("bad.safetensors"), out = f.file("o.sdw");
  uint64_t header = 0;
  std::copy_n(bytes.data(), sizeof(header), reinterpret_cast<char*>(&header));
  const std::string convert = kBin + "sdconvert -q " + bad + " " + out;
  const auto refused = [&](const std::string& command, const char* what) {
    const CommandResult r = run_command(command);
    EXPECT_EQ(r.exit_code, 3) << what << ": " << r.output;
    EXPECT_EQ(count(r.output, "\n"), 1u) << what << ": " << r.output;
    EXPECT_FALSE(fs::exists(out)) << what;
    for (const auto& entry : fs::directory_iterator(f.path()))
      EXPECT_FALSE(entry.path().filename().string().starts_with("o.sdw")) << what << ": " << entry.path();
  };
  for (const auto& [what, n] : {std::pair("nothing", size_t(0)),
                                {"in its length", 4},
                                {"behind it", 8},
                                {"in the header", 8 + size_t(header) / 2},
                                {"behind the header", 8 + size_t(header)},
                                {"in the data", 8 + size_t(header) + 100},
                                {"a byte short", bytes.size() - 1}}) {
    write_file(bad, bytes.substr(0, n));
    refused(convert + kHow, what);
  }
  write_file(bad, bytes);
  const CommandResult none = run_command("HOME=" + f.path() + " XDG_DATA_HOME= " + convert + " --config " + kModel);
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_NE(none.output.find("carries no tokenizer: name one with --tokenizer"), std::string::npos) << none.output;
  // A name with a line break in it is printed on one line.
  const std::string text =
      "{\"model.diffusion_model.a\\nb\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}," +
      bytes.substr(9, header - 1);
  write_file(bad, safetensors_bytes(text, bytes.substr(8 + header)));
  refused(convert + kHow, "line break");
}

}  // namespace
}  // namespace darkroom::testing

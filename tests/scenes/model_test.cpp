// The model that ships, end to end by sdrun: pictures show what prompts ask
// for, and every way to steer them moves them that way.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tools/common/image_io.h"

namespace darkroom::testing {
namespace {

const std::string kBin = DARKROOM_BINARY_DIR "/bin/";
constexpr int kSide = 128;

// No -m: the model beside the program. DARKROOM_MODEL may name another.
void draw(const std::string& arguments) {
  const CommandResult r = run_command("env -u DARKROOM_MODEL " + kBin + "sdrun -q " + arguments);
  ASSERT_EQ(r.exit_code, 0) << r.output;
}

// Of the pictures of `prompts` (entries of prompts.json): how many have the
// right things, and how many the right relation.
struct Score {
  int pictures = 0, things = 0, related = 0, relation = 0, with_background = 0, background = 0;
};
Score score(const nlohmann::json& entries, const std::string& options) {
  TemporaryFolder f;
  std::string lines;
  nlohmann::json specs = entries;
  for (size_t i = 0; i < entries.size(); ++i) {
    lines += entries[i]["prompt"].get<std::string>() + "\n";
    specs[i]["file"] = "p-" + std::to_string(i + 1) + ".png";
  }
  write_file(f.file("prompts.txt"), lines);
  write_file(f.file("specs.json"), specs.dump());
  draw(options + " --prompts-file " + f.file("prompts.txt") + " -o " + f.file("p.png"));
  const CommandResult r = run_command(kBin + "scenes_score --specs " + f.file("specs.json"));
  EXPECT_EQ(r.exit_code, 0) << r.output;
  const size_t last = r.output.find_last_of('\n', r.output.size() - 2);
  const nlohmann::json counts = nlohmann::json::parse(r.output.substr(last == std::string::npos ? 0 : last + 1));
  return {counts["pictures"], counts["things"],          counts["with_relation"],
          counts["relation"], counts["with_background"], counts["background"]};
}

nlohmann::json prompts(size_t first, size_t count) {
  const nlohmann::json all = nlohmann::json::parse(read_file(golden_path("scenes/prompts.json")));
  nlohmann::json part = nlohmann::json::array();
  for (size_t i = first; i < first + count; ++i) part.push_back(all[i]);
  return part;
}

// Mean square difference of two pictures' pixels over columns [from, to), as
// PSNR in dB.
double psnr(const Image& a, const Image& b, int from = 0, int to = kSide) {
  double sum = 0;
  for (int y = 0; y < kSide; ++y)
    for (int x = from; x < to; ++x)
      for (int c = 0; c < 3; ++c) {
        const size_t at = (size_t(y) * size_t(kSide) + size_t(x)) * 3 + size_t(c);
        sum += std::pow(double(a.pixels[at]) - double(b.pixels[at]), 2);
      }
  return 10 * std::log10(255.0 * 255.0 / (sum / (3.0 * kSide * (to - from))));
}

// Mean of all channels over four seeds, 0 to 255.
double brightness(const std::string& arguments) {
  TemporaryFolder f;
  draw(arguments + " -b 4 -o " + f.file("p.png"));
  double sum = 0;
  for (int k = 1; k <= 4; ++k)
    for (const uint8_t v : read_image(f.file("p-" + std::to_string(k) + ".png")).pixels) sum += v;
  return sum / (4.0 * 3 * kSide * kSide);
}

TEST(Scenes, ShowsWhatThePromptAsksFor) {
  const Score s = score(prompts(0, 24), "-s 7");
  EXPECT_EQ(s.pictures, 24);
  EXPECT_GE(s.things, 20);
  EXPECT_GE(s.relation, s.related * 3 / 4);
}

TEST(Scenes, InBf16AsInF32) {
  const nlohmann::json entries = prompts(24, 24);
  const Score f32 = score(entries, "-s 8"), bf16 = score(entries, "-s 8 --dtype bf16");
  EXPECT_GE(bf16.things, f32.things - 1);
  EXPECT_GE(bf16.relation, f32.relation - 1);
}

TEST(Scenes, AnImageToBeginWithIsKeptByStrength) {
  TemporaryFolder f;
  const std::string given = golden_path("scenes/00.png");
  const Image image = read_image(given);
  double last = 100;
  for (const char* strength : {"0.1", "0.5", "1"}) {
    draw("'a red boat at sea' -i " + given + " --strength " + strength + " -o " + f.file("o.png"));
    const double db = psnr(image, read_image(f.file("o.png")));
    EXPECT_LT(db, last - 2) << strength;
    if (last == 100) {
      EXPECT_GT(db, 18);
    }
    last = db;
  }
  EXPECT_LT(last, 12);
}

TEST(Scenes, OnlyTheMaskIsPaintedAnew) {
  TemporaryFolder f;
  const Image image = read_image(golden_path("scenes/00.png"));
  Image mask{kSide, kSide, std::vector<uint8_t>(size_t(3 * kSide * kSide))};
  for (int y = 0; y < kSide; ++y) std::fill_n(mask.pixels.begin() + (y * kSide + kSide / 2) * 3, 3 * kSide / 2, 255);
  write_png(f.file("mask.png"), mask, "");
  draw("'a big blue circle on a grey background' -i " + golden_path("scenes/00.png") + " --strength 1 --mask " +
       f.file("mask.png") + " -o " + f.file("o.png"));
  const Image made = read_image(f.file("o.png"));
  // Beside the seam the decoder sees both halves.
  EXPECT_GT(psnr(image, made, 0, kSide / 2 - 16), 26);
  EXPECT_LT(psnr(image, made, kSide / 2, kSide), 20);
}

TEST(Scenes, ANegativePromptTakesAway) {
  EXPECT_GT(brightness("'a yellow star' -n 'at night'"), brightness("'a yellow star' -n 'on white'") + 40);
}

// A bright thing in the dark, and more or less of it. (A weight on "at night" shows little: in a causal encoder the tokens behind
// a word know it too.)
TEST(Scenes, PromptWeightsWeigh) {
  const double half = brightness("'(a yellow star:0.5) at night'"), one = brightness("'a yellow star at night'"),
               more = brightness("'(a yellow star:1.5) at night'");
  EXPECT_GT(one, half + 3);
  EXPECT_GT(more, one + 5);
}

}  // namespace
}  // namespace darkroom::testing

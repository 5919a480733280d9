// The model that ships, end to end by sdrun: it is found without -m, and an image to begin with and a mask do what they say.
#include <gtest/gtest.h>

#include <cmath>

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

// Of two pictures' columns [from, to), in dB.
double psnr(const Image& a, const Image& b, int from = 0, int to = kSide) {
  double sum = 0;
  for (int y = 0; y < kSide; ++y)
    for (int x = from; x < to; ++x)
      for (int c = 0; c < 3; ++c) {
        const size_t at = size_t((y * kSide + x) * 3 + c);
        sum += std::pow(double(a.pixels[at]) - double(b.pixels[at]), 2);
      }
  return 10 * std::log10(255.0 * 255.0 / (sum / (3.0 * kSide * (to - from))));
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
      EXPECT_GT(db, 24);
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

}  // namespace
}  // namespace darkroom::testing

// Pictures from elsewhere: headers that promise more than their file can hold, and pictures that are cut off.
#include "tools/common/image_io.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "tests/support/files.h"

namespace darkroom::testing {
namespace {

std::string big_endian(uint32_t x) { return {char(x >> 24), char(x >> 16), char(x >> 8), char(x)}; }

std::string png_chunk(const std::string& type_and_body) {
  const auto* bytes = reinterpret_cast<const Bytef*>(type_and_body.data());
  return big_endian(uint32_t(type_and_body.size() - 4)) + type_and_body +
         big_endian(uint32_t(crc32(0, bytes, uInt(type_and_body.size()))));
}

// Eight bits of grey, and next to no pixels.
std::string lying_png(uint32_t width, uint32_t height) {
  return "\x89PNG\r\n\x1a\n" +
         png_chunk("IHDR" + big_endian(width) + big_endian(height) + std::string("\x08\0\0\0\0", 5)) +
         png_chunk("IDAT" + std::string("\x78\x9c\x03\0\0\0\0\x01", 8)) + png_chunk("IEND");
}

// A frame and the begin of a scan, without tables and without data.
std::string lying_jpeg(uint32_t width, uint32_t height) {
  const std::string size = big_endian(height).substr(2) + big_endian(width).substr(2);
  return std::string("\xff\xd8\xff\xc0\0\x0b\x08", 7) + size + std::string("\x01\x01\x11\0", 4) +
         std::string("\xff\xda\0\x08\x01\x01\0\0\x3f\0", 10);
}

std::string lying_webp(uint32_t width, uint32_t height) {
  const uint32_t size = (width - 1) | (height - 1) << 14;
  const std::string frame = std::string("\x2f") + char(size) + char(size >> 8) + char(size >> 16) + char(size >> 24);
  return std::string("RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0", 20) + frame + '\0';
}

std::string error_of_picture(const std::string& bytes) {
  TemporaryFolder f;
  write_file(f.file("p"), bytes);
  const std::string error = error_of([&] { read_image(f.file("p")); });
  EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  return error.substr(0, 3) + error.substr(std::min(error.size(), 3 + f.file("p").size() + 2));
}

TEST(ReadImage, TakesNoMemoryForPixelsThatAFileCannotHold) {
  EXPECT_TRUE(error_of_picture(lying_png(16000, 8000)).starts_with("3: says that it is 16000x8000 pixels, which its"));
  EXPECT_TRUE(error_of_picture(lying_jpeg(16000, 8000)).starts_with("3: says that it is 16000x8000 pixels, which its"));
  for (const std::string& bytes : {lying_png(16384, 16384), lying_jpeg(16384, 16384), lying_webp(16384, 16384)})
    EXPECT_TRUE(error_of_picture(bytes).starts_with("3: is 16384x16384 pixels; 1 to 16384 in each direction"))
        << error_of_picture(bytes);
  EXPECT_TRUE(error_of_picture(lying_png(20000, 8)).starts_with("3: is 20000x8 pixels"));
  EXPECT_TRUE(error_of_picture(lying_webp(64, 64)).starts_with("3: is a broken WebP picture"));
}

// libpng would take 2 GB for this text before it looks for it. Found by fuzz_png.
TEST(ReadImage, TakesNoMemoryForTextThatAFileDoesNotHave) {
  const std::string header = png_chunk("IHDR" + big_endian(1) + big_endian(1) + std::string("\x08\0\0\0\0", 5));
  const std::string text = big_endian(0x75000000) + "tEXtparameters";
  const std::string bytes = std::string("\x89PNG\r\n\x1a\n") + header + text;
  EXPECT_EQ(error_of_picture(bytes), "3: is cut off at byte 33");
}

TEST(ReadImage, ALargePictureOfOneColourIsRead) {
  TemporaryFolder f;
  write_png(f.file("p.png"), {4096, 2048, std::vector<uint8_t>(size_t(4096) * 2048 * 3, 7)}, "");
  const Image image = read_image(f.file("p.png"));
  EXPECT_EQ(image.width, 4096);
  EXPECT_EQ(image.pixels, std::vector<uint8_t>(image.pixels.size(), 7));
}

TEST(ReadImage, APngIsRefusedWhereverItIsCutOff) {
  TemporaryFolder f;
  std::vector<uint8_t> pixels;
  for (int i = 0; i < 24 * 16 * 3; ++i) pixels.push_back(uint8_t(i * i));
  write_png(f.file("p.png"), {24, 16, pixels}, "a\nSteps: 1");
  const std::string bytes = read_file(f.file("p.png"));
  const size_t data_end = bytes.rfind("IEND") - 8;  // what follows is read by nobody
  for (size_t n = 1; n < data_end; ++n)
    ASSERT_TRUE(error_of_picture(bytes.substr(0, n)).starts_with("3: ")) << n << " of " << bytes.size();
}

}  // namespace
}  // namespace darkroom::testing

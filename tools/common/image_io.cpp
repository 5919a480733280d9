#include "tools/common/image_io.h"

#include <jpeglib.h>
#include <png.h>
#include <stb_image_write.h>
#include <webp/decode.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstring>
#include <memory>

#include "kernels/core/error.h"
#include "runtime/atomic_file.h"
#include "runtime/mapped_file.h"

namespace darkroom {

namespace {

constexpr int kMaxSide = 16384;
constexpr int64_t kMaxPixels = int64_t(1) << 27;
// Pixels that a byte of a file can stand for. PNG: deflate makes 1032 bytes of one, each of eight 1-bit pixels. JPEG: with
// Huffman's code a block of 8×8 pixels takes a bit or more.
constexpr int64_t kPngPixelsOfByte = 1032 * 8, kJpegPixelsOfByte = 64 * 8;
constexpr unsigned char kPngSignature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};

// Before memory is taken for the pixels: a header may say anything. `pixels_of_byte` 0: no bound is known.
void check_size(const MappedFile& file, int64_t width, int64_t height, int64_t pixels_of_byte) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide || width * height > kMaxPixels)
    throw file_error("{}: is {}x{} pixels; 1 to {} in each direction are read, and {} in all", file.path(), width,
                     height, kMaxSide, kMaxPixels);
  if (pixels_of_byte > 0 && width * height / pixels_of_byte > int64_t(file.size()))
    throw file_error("{}: says that it is {}x{} pixels, which its {} bytes cannot hold: truncated?", file.path(), width,
                     height, file.size());
}

uint32_t get_u32(const std::byte* p) {
  uint32_t x = 0;
  for (int i = 0; i < 4; ++i) x = x << 8 | uint32_t(p[i]);
  return x;
}

struct PngChunk {
  std::string_view type, body;
};

// The chunk at `at`, which moves behind it; nothing at the end of the picture.
std::optional<PngChunk> next_png_chunk(const MappedFile& file, size_t& at) {
  if (at + 12 > file.size()) return std::nullopt;
  const uint32_t length = get_u32(file.data() + at);
  if (length > file.size() - at - 12) throw file_error("{}: is cut off at byte {}", file.path(), at);
  const PngChunk chunk = {file.text().substr(at + 4, 4), file.text().substr(at + 8, length)};
  at += 12 + size_t(length);
  if (chunk.type == "IEND") return std::nullopt;
  return chunk;
}

Image read_png(const MappedFile& file) {
  // libpng takes memory for a chunk of text before it looks whether the file has that many bytes.
  for (size_t at = sizeof kPngSignature; next_png_chunk(file, at);) {
  }
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&png, file.data(), file.size()))
    throw file_error("{}: {}", file.path(), png.message);
  const std::unique_ptr<png_image, decltype(&png_image_free)> guard(&png, png_image_free);
  check_size(file, png.width, png.height, kPngPixelsOfByte);
  png.format = PNG_FORMAT_RGB;
  Image image{int(png.width), int(png.height), std::vector<uint8_t>(PNG_IMAGE_SIZE(png))};
  const png_color white = {255, 255, 255};
  if (!png_image_finish_read(&png, &white, image.pixels.data(), 0, nullptr))
    throw file_error("{}: {}", file.path(), png.message);
  return image;
}

struct JpegError {
  jpeg_error_mgr manager;
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

Image read_jpeg(const MappedFile& file) {
  jpeg_decompress_struct jpeg;
  JpegError error;
  Image image;
  const std::unique_ptr<jpeg_decompress_struct, decltype(&jpeg_destroy_decompress)> guard(&jpeg,
                                                                                          jpeg_destroy_decompress);
  jpeg.err = jpeg_std_error(&error.manager);
  error.manager.error_exit = [](j_common_ptr info) {
    JpegError* e = reinterpret_cast<JpegError*>(info->err);
    e->manager.format_message(info, e->message);
    std::longjmp(e->jump, 1);
  };
  error.manager.output_message = [](j_common_ptr) {};
  jpeg_create_decompress(&jpeg);
  if (setjmp(error.jump)) throw file_error("{}: {}", file.path(), error.message);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  jpeg_read_header(&jpeg, TRUE);
  check_size(file, jpeg.image_width, jpeg.image_height, jpeg.arith_code ? 0 : kJpegPixelsOfByte);
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  image.width = int(jpeg.output_width);
  image.height = int(jpeg.output_height);
  image.pixels.resize(size_t(image.width) * size_t(image.height) * 3);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = image.pixels.data() + size_t(jpeg.output_scanline) * size_t(image.width) * 3;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  return image;
}

Image read_webp(const MappedFile& file) {
  const auto* data = reinterpret_cast<const uint8_t*>(file.data());
  Image image;
  if (!WebPGetInfo(data, file.size(), &image.width, &image.height))
    throw file_error("{}: is no readable WebP picture", file.path());
  check_size(file, image.width, image.height, 0);  // a run of one colour takes no bits at all
  const size_t n = size_t(image.width) * size_t(image.height);
  std::vector<uint8_t> rgba(n * 4);
  if (!WebPDecodeRGBAInto(data, file.size(), rgba.data(), rgba.size(), image.width * 4))
    throw file_error("{}: is a broken WebP picture", file.path());
  image.pixels.resize(n * 3);
  for (size_t i = 0; i < n; ++i)
    for (size_t c = 0; c < 3; ++c) {
      const int alpha = rgba[i * 4 + 3];
      image.pixels[i * 3 + c] = uint8_t((rgba[i * 4 + c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
  return image;
}

// Weights of source pixels for one target pixel: a triangle as wide as a target pixel is in the source, at least one pixel.
struct Taps {
  int first;
  std::vector<float> weights;
};
std::vector<Taps> make_taps(int from, int to) {
  const double scale = double(from) / to, reach = std::max(1.0, scale);
  std::vector<Taps> taps(static_cast<size_t>(to));
  for (int i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale - 0.5;
    Taps& t = taps[size_t(i)];
    t.first = std::max(0, int(std::ceil(center - reach)));
    double sum = 0;
    for (int j = t.first; j <= std::min(from - 1, int(std::floor(center + reach))); ++j) {
      const double w = std::max(0.0, 1 - std::abs(j - center) / reach);
      t.weights.push_back(float(w));
      sum += w;
    }
    for (float& w : t.weights) w = float(w / sum);
  }
  return taps;
}

void put_u32(std::string& out, uint32_t x) {
  for (int shift = 24; shift >= 0; shift -= 8) out += char(x >> shift);
}

// UTF-8 → Latin-1; nothing where a character has no place in it.
std::optional<std::string> to_latin1(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t c = uint8_t(text[i]);
    if (c < 0x80) {
      out += char(c);
    } else if ((c == 0xc2 || c == 0xc3) && i + 1 < text.size()) {
      out += char(uint8_t(c << 6) | (uint8_t(text[++i]) & 0x3f));
    } else {
      return std::nullopt;
    }
  }
  return out;
}
std::string from_latin1(std::string_view text) {
  std::string out;
  for (char raw : text) {
    const uint8_t c = uint8_t(raw);
    if (c < 0x80) {
      out += raw;
    } else {
      out += char(0xc0 | (c >> 6));
      out += char(0x80 | (c & 0x3f));
    }
  }
  return out;
}

// A whole chunk: length, type, data, CRC.
std::string text_chunk(const std::string& keyword, const std::string& text) {
  const std::optional<std::string> latin = to_latin1(text);
  std::string body = latin ? "tEXt" + keyword + '\0' + *latin : "iTXt" + keyword + std::string(5, '\0') + text;
  std::string chunk;
  put_u32(chunk, uint32_t(body.size() - 4));
  chunk += body;
  put_u32(chunk, uint32_t(crc32(0, reinterpret_cast<const Bytef*>(body.data()), uInt(body.size()))));
  return chunk;
}

}  // namespace

Image read_image(const std::string& path) {
  const MappedFile file(path);
  const auto starts = [&](std::string_view magic, size_t at = 0) {
    return file.size() >= at + magic.size() && file.text().substr(at, magic.size()) == magic;
  };
  if (starts("\x89PNG")) return read_png(file);
  if (starts("\xff\xd8\xff")) return read_jpeg(file);
  if (starts("RIFF") && starts("WEBP", 8)) return read_webp(file);
  throw file_error("{}: is no PNG, JPEG or WebP picture", path);
}

std::vector<uint8_t> read_mask(const std::string& path, int width, int height) {
  const Image image = resize_image(read_image(path), width, height);
  std::vector<uint8_t> grey;
  for (size_t i = 0; i < image.pixels.size(); i += 3)
    grey.push_back(
        uint8_t((image.pixels[i] * 299 + image.pixels[i + 1] * 587 + image.pixels[i + 2] * 114 + 500) / 1000));
  return grey;
}

Image resize_image(const Image& image, int width, int height) {
  if (image.width == width && image.height == height) return image;
  // The middle of the picture, in the new shape.
  int cut_width = image.width, cut_height = image.height;
  if (int64_t(image.width) * height > int64_t(image.height) * width)
    cut_width = std::max(1, int(int64_t(image.height) * width / height));
  else
    cut_height = std::max(1, int(int64_t(image.width) * height / width));
  const int left = (image.width - cut_width) / 2, top = (image.height - cut_height) / 2;
  const std::vector<Taps> columns = make_taps(cut_width, width), rows = make_taps(cut_height, height);
  std::vector<float> narrow(size_t(cut_height) * size_t(width) * 3);
  for (int y = 0; y < cut_height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const Taps& t = columns[size_t(x)];
        float sum = 0;
        for (size_t k = 0; k < t.weights.size(); ++k)
          sum +=
              t.weights[k] *
              float(image.pixels[(size_t(top + y) * size_t(image.width) + size_t(left + t.first) + k) * 3 + size_t(c)]);
        narrow[(size_t(y) * size_t(width) + size_t(x)) * 3 + size_t(c)] = sum;
      }
  Image out{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  for (int y = 0; y < height; ++y)
    for (size_t i = 0; i < size_t(width) * 3; ++i) {
      const Taps& t = rows[size_t(y)];
      float sum = 0;
      for (size_t k = 0; k < t.weights.size(); ++k)
        sum += t.weights[k] * narrow[(size_t(t.first) + k) * size_t(width) * 3 + i];
      out.pixels[size_t(y) * size_t(width) * 3 + i] = uint8_t(std::clamp(std::nearbyint(sum), 0.0f, 255.0f));
    }
  return out;
}

void write_png(const std::string& path, const Image& image, const std::string& parameters) {
  std::string png;
  const auto append = [](void* context, void* data, int size) {
    static_cast<std::string*>(context)->append(static_cast<const char*>(data), size_t(size));
  };
  if (!stbi_write_png_to_func(append, &png, image.width, image.height, 3, image.pixels.data(), image.width * 3))
    throw file_error("{}: the picture cannot be compressed", path);
  constexpr size_t kAfterHeader = 8 + 25;  // signature and IHDR
  if (!parameters.empty()) png.insert(kAfterHeader, text_chunk("parameters", parameters));
  AtomicFile file(path);
  file.write(png.data(), png.size());
  file.commit();
}

std::optional<std::string> read_png_text(const std::string& path, const std::string& keyword) {
  const MappedFile file(path);
  if (file.size() < 8 || std::memcmp(file.data(), kPngSignature, 8) != 0)
    throw file_error("{}: is no PNG picture", path);
  size_t at = sizeof kPngSignature;
  while (std::optional<PngChunk> chunk = next_png_chunk(file, at)) {
    std::string_view body = chunk->body;
    if ((chunk->type != "tEXt" && chunk->type != "iTXt") || !body.starts_with(keyword) ||
        body.size() <= keyword.size() || body[keyword.size()] != '\0')
      continue;
    body.remove_prefix(keyword.size() + 1);
    if (chunk->type == "tEXt") return from_latin1(body);
    // Compression flag and method, language, translated keyword, text.
    if (body.size() < 2 || body[0] != 0)
      throw file_error("{}: its {} are compressed, which is not read", path, keyword);
    body.remove_prefix(2);
    for (int i = 0; i < 2; ++i) body.remove_prefix(std::min(body.find('\0') + 1, body.size()));
    return std::string(body);
  }
  return std::nullopt;
}

}  // namespace darkroom

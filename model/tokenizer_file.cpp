#include "model/tokenizer_file.h"

#include <zlib.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "kernels/core/error.h"
#include "model/tokenizer.h"
#include "runtime/mapped_file.h"
#include "runtime/zip_archive.h"

namespace darkroom {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPacked = "bpe_simple_vocab_16e6.txt.gz";
constexpr size_t kMaxText = size_t(32) << 20;
constexpr size_t kClipMerges = 49152 - 256 - 2;  // of the file's 262,144, those that CLIP was trained with
constexpr std::string_view kGzip = "\x1f\x8b", kVersion = "#version: 0.2\n";

// window_bits: 16 + 15 for gzip, −15 for what lies in a zip file.
std::string inflate_text(std::string_view packed, int window_bits, const std::string& where) {
  z_stream stream = {};
  if (packed.size() > kMaxText || inflateInit2(&stream, window_bits) != Z_OK)
    throw file_error("{}: has {} packed bytes, too many for a tokenizer", where, packed.size());
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> owner(&stream, &inflateEnd);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = uInt(packed.size());
  std::string text;
  std::vector<char> block(1 << 16);
  for (int result = Z_OK; result != Z_STREAM_END;) {
    stream.next_out = reinterpret_cast<Bytef*>(block.data());
    stream.avail_out = uInt(block.size());
    result = inflate(&stream, Z_NO_FLUSH);
    const size_t got = block.size() - stream.avail_out;
    if (result != Z_OK && result != Z_STREAM_END) throw file_error("{}: is damaged or cut off (inflate)", where);
    if (result == Z_OK && got == 0) throw file_error("{}: is cut off", where);
    text.append(block.data(), got);
    if (text.size() > kMaxText) throw file_error("{}: unpacks to more than {} bytes", where, kMaxText);
  }
  return text;
}

// The first pairs, under the line that merges.txt begins with.
std::string clip_merges(const std::string& text) {
  const size_t first = text.find('\n');
  if (first == std::string::npos) return text;
  size_t at = first + 1;
  for (size_t n = 0; n < kClipMerges && at < text.size(); ++n) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) return text;
    at = end + 1;
  }
  return std::string(kVersion) + text.substr(first + 1, at - first - 1);
}

std::string text_of(std::string_view bytes, const std::string& where) {
  if (bytes.starts_with(kGzip)) return text_of(inflate_text(bytes, 16 + MAX_WBITS, where), where);
  if (bytes.size() > kMaxText) throw file_error("{}: has {} bytes, too many for a tokenizer", where, bytes.size());
  return std::string(bytes);
}

std::string merges_of_archive(const MappedFile& file) {
  const ZipArchive zip({file.data(), file.size()}, file.path());
  for (const auto& [name, member] : zip.members()) {
    if (!name.ends_with(kPacked)) continue;
    const std::string where = file.path() + ": " + name;
    const std::string_view bytes(reinterpret_cast<const char*>(member.bytes.data()), member.bytes.size());
    if (member.method == 0) return text_of(bytes, where);
    if (member.method == 8) return text_of(inflate_text(bytes, -MAX_WBITS, where), where);
    throw file_error("{}: is packed by method {}, which is not read", where, member.method);
  }
  throw file_error("{}: is a zip file without {}", file.path(), kPacked);
}

}  // namespace

TokenizerTexts read_tokenizer(const std::string& path) {
  if (fs::is_directory(path)) {
    for (const char* below : {"", "/tokenizer", "/tokenizer_2"}) {
      const std::string folder = path + below;
      if (!fs::is_regular_file(folder + "/merges.txt")) continue;
      TokenizerTexts texts = {read_text_file(folder + "/merges.txt"), std::nullopt};
      if (fs::is_regular_file(folder + "/vocab.json")) texts.vocab = read_text_file(folder + "/vocab.json");
      return texts;
    }
    throw file_error("{}: is a folder without merges.txt: no tokenizer", path);
  }
  if (!fs::exists(path)) throw file_error("{}: the tokenizer does not exist", path);
  const MappedFile file(path);
  const std::string merges =
      clip_merges(ZipArchive::begins_like_one(file.text()) ? merges_of_archive(file) : text_of(file.text(), path));
  [[maybe_unused]] const Tokenizer valid(merges, std::nullopt, path);  // says what is wrong with it
  return {merges, std::nullopt};
}

}  // namespace darkroom

// CLIP's merges from every file in which people have them.
#include "model/tokenizer_file.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "runtime/mapped_file.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

const std::string kFolder = golden_path("models/tiny-sd15/tokenizer");

// window_bits as zlib has them: 31 gzip, −15 the bare stream of a zip file.
std::string deflated(const std::string& text, int window_bits) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, uLong(text.size())) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = uInt(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = uInt(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zip_of(const std::string& name, const std::string& text, bool packed) {
  const auto u16 = [](uint32_t x) { return std::string{char(x), char(x >> 8)}; };
  const auto u32 = [&](uint32_t x) { return u16(x) + u16(x >> 16); };
  const std::string data = packed ? deflated(text, -MAX_WBITS) : text;
  const std::string common = u16(20) + u16(0) + u16(packed ? 8 : 0) + u32(0) + u32(0) + u32(uint32_t(data.size())) +
                             u32(uint32_t(text.size())) + u16(uint32_t(name.size())) + u16(0);
  const std::string local = "PK\3\4" + common + name + data;
  const std::string table = "PK\1\2" + u16(20) + common + u16(0) + u16(0) + u16(0) + u32(0) + u32(0) + name;
  return local + table + "PK\5\6" + u32(0) + u16(1) + u16(1) + u32(uint32_t(table.size())) +
         u32(uint32_t(local.size())) + u16(0);
}

TEST(TokenizerFile, EveryFormIsTheSame) {
  TemporaryFolder f;
  const std::string merges = read_text_file(kFolder + "/merges.txt");
  EXPECT_EQ(read_tokenizer(kFolder).merges, merges);
  EXPECT_TRUE(read_tokenizer(kFolder).vocab);
  EXPECT_EQ(read_tokenizer(golden_path("models/tiny-sd15")).merges, merges);
  EXPECT_EQ(read_tokenizer(kFolder + "/merges.txt").merges, merges);
  // OpenAI's file has the same pairs under another first line.
  const std::string openai = "\"bpe_simple_vocab_16e6.txt#version: 0.2\n" + merges.substr(merges.find('\n') + 1);
  write_file(f.file("bpe.txt"), openai);
  EXPECT_EQ(read_tokenizer(f.file("bpe.txt")).merges, merges);
  const std::string packed = deflated(openai, MAX_WBITS + 16);
  write_file(f.file("bpe.txt.gz"), packed);
  EXPECT_EQ(read_tokenizer(f.file("bpe.txt.gz")).merges, merges);
  for (const bool again : {false, true}) {
    write_file(f.file("open_clip.whl"), zip_of("open_clip/bpe_simple_vocab_16e6.txt.gz", packed, again));
    EXPECT_EQ(read_tokenizer(f.file("open_clip.whl")).merges, merges) << again;
  }
}

TEST(TokenizerFile, TakesThePairsThatClipWasTrainedWith) {
  const std::string folder = shared_golden_path("tokenizer/clip");
  if (folder.empty()) GTEST_SKIP() << "the full vocabulary is not here";
  TemporaryFolder f;
  const std::string merges = read_text_file(folder + "/merges.txt");
  std::string openai = "\"bpe_simple_vocab_16e6.txt#version: 0.2\n" + merges.substr(merges.find('\n') + 1);
  for (int i = 0; i < 1000; ++i) openai += "m ore\n";
  write_file(f.file("bpe.txt"), openai);
  EXPECT_EQ(read_tokenizer(f.file("bpe.txt")).merges, merges);
}

TEST(TokenizerFile, RefusesWithOneClearLine) {
  TemporaryFolder f;
  const std::string path = f.file("t");
  const std::string packed = deflated(read_text_file(kFolder + "/merges.txt"), MAX_WBITS + 16);
  for (const auto& [bytes, message] : {
           std::pair(packed.substr(0, packed.size() / 2), "cut off"),
           {packed.substr(0, 10) + "\x07" + packed.substr(11), "damaged"},
           {zip_of("readme.txt", "hello", true), "without bpe_simple_vocab_16e6.txt.gz"},
           {zip_of("a/bpe_simple_vocab_16e6.txt.gz", packed, true).substr(0, 200), "truncated"},
           {deflated(std::string(size_t(40) << 20, 'a'), MAX_WBITS + 16), "unpacks to more than"},
           {std::string("first\none two three\n"), "line 2"},
       }) {
    write_file(path, bytes);
    const std::string error = error_of([&] { read_tokenizer(path); });
    EXPECT_TRUE(error.starts_with("3: " + path)) << error;
    EXPECT_NE(error.find(message), std::string::npos) << error << " / " << message;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
  EXPECT_NE(error_of([&] { read_tokenizer(f.path()); }).find("without merges.txt"), std::string::npos);
  EXPECT_NE(error_of([&] { read_tokenizer(f.file("none")); }).find("does not exist"), std::string::npos);
}

}  // namespace
}  // namespace darkroom::testing

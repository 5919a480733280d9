// Token ids against the reference tokenizer's, exactly; and what the tokenizer refuses.
#include "model/tokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/mapped_file.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

using nlohmann::json;

std::vector<int32_t> padded(const Tokenizer& t, const std::string& text, int32_t pad) {
  std::vector<int32_t> ids = t.encode(text);
  if (ids.size() > 75) ids.resize(75);
  ids.insert(ids.begin(), t.begin_id());
  ids.push_back(t.end_id());
  ids.resize(77, pad);
  return ids;
}

TEST(Tokenizer, PromptsOfTheSmallModels) {
  struct Case {
    const char *model, *folder, *encoder, *pad;
  };
  for (const Case& c :
       {Case{"tiny-sd15", "tokenizer", "text_encoder", "<|endoftext|>"},
        Case{"tiny-sd21", "tokenizer", "text_encoder", "!"}, Case{"tiny-sdxl", "tokenizer_2", "text_encoder_2", "!"}}) {
    const std::string folder = golden_path(std::string("models/") + c.model + "/" + c.folder + "/");
    const std::string vocab = read_text_file(folder + "vocab.json"), merges = read_text_file(folder + "merges.txt");
    Tokenizer both(merges, vocab, folder), alone(merges, std::nullopt, folder);
    both.add_special(c.pad);
    alone.add_special(c.pad);
    EXPECT_EQ(both.vocabulary_size(), alone.vocabulary_size());
    const Safetensors golden(golden_path(std::string("outputs/") + c.model + "/" + c.encoder + ".safetensors"));
    const std::vector<float> ids = tensor(golden, "input_ids");
    size_t row = 0;
    for (const json& prompt : json::parse(golden.metadata().at("prompts"))) {
      const std::vector<int32_t> expected(ids.begin() + std::ptrdiff_t(row * 77),
                                          ids.begin() + std::ptrdiff_t((row + 1) * 77));
      EXPECT_EQ(padded(both, prompt, both.id_of(c.pad)), expected) << prompt;
      EXPECT_EQ(padded(alone, prompt, alone.id_of(c.pad)), expected) << prompt;
      ++row;
    }
    EXPECT_EQ(row * 77, ids.size());
  }
}

TEST(Tokenizer, TheFullVocabulary) {
  const std::string shared = shared_golden_path("tokenizer"), folder = shared + "/";
  if (shared.empty()) GTEST_SKIP() << "the full vocabulary is not here";
  const std::string vocab = read_text_file(folder + "clip/vocab.json"),
                    merges = read_text_file(folder + "clip/merges.txt");
  const Tokenizer both(merges, vocab, "clip"), alone(merges, std::nullopt, "clip");
  const json prompts = json::parse(read_text_file(folder + "clip_prompts.json"));
  for (const json& row : prompts["rows"]) {
    std::vector<int32_t> expected = row.contains("ids_fast") ? row["ids_fast"] : row["ids"];
    expected = {expected.begin() + 1, expected.end() - 1};
    EXPECT_EQ(both.encode(row["text"].get<std::string>()), expected) << row["text"];
    EXPECT_EQ(alone.encode(row["text"].get<std::string>()), expected) << row["text"];
  }
}

TEST(Tokenizer, RefusesWithOneClearLine) {
  const std::string folder = golden_path("models/tiny-sd15/tokenizer/");
  const std::string merges = read_text_file(folder + "merges.txt");
  const auto error = [](auto f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_NE(error([&] { Tokenizer(merges, "[1]", "x/tokenizer"); }).find("x/tokenizer"), std::string::npos);
  EXPECT_NE(error([&] { Tokenizer(merges, "{\"a\": 0}", "x"); }).find("<|startoftext|>"), std::string::npos);
  EXPECT_NE(error([&] { Tokenizer("a b c\n", std::nullopt, "x"); }).find("line 1"), std::string::npos);
  const Tokenizer t(merges, std::nullopt, "x");
  EXPECT_NE(error([&] { t.encode("caf\xe9"); }).find("UTF-8"), std::string::npos);
}

}  // namespace
}  // namespace darkroom::testing

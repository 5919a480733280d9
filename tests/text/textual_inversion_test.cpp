// Learned words: a word whose vectors are those of other words means the same, to the byte.
#include "model/textual_inversion.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/pipeline.h"
#include "runtime/mapped_file.h"
#include "tests/support/files.h"
#include "tests/support/golden.h"
#include "tests/support/safetensors_writer.h"

namespace darkroom::testing {
namespace {

Tokenizer tokenizer() {
  return Tokenizer(read_text_file(golden_path("models/tiny-sd15/tokenizer/merges.txt")), std::nullopt, "merges");
}

std::vector<int32_t> operator+(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(LearnedWords, StandForTheirIds) {
  Tokenizer t = tokenizer();
  const std::vector<int32_t> a = t.encode("a"), comma = t.encode(","), dash = t.encode("-");
  t.add_word("zork", 5000, 1);
  t.add_word("Zork-Style", 5001, 3);
  t.add_word("<cat>", 5004, 2);
  t.add_word("caf\xc3\xa9", 5006, 1);
  const std::vector<int32_t> zork = {5000}, style = {5001, 5002, 5003}, cat = {5004, 5005};
  EXPECT_EQ(t.encode("a ZORK, a"), a + zork + comma + a);
  EXPECT_EQ(t.encode("zork-style a"), style + a);  // the longest
  EXPECT_EQ(t.encode("zork-a"), zork + dash + a);
  EXPECT_EQ(t.encode("zorks"), tokenizer().encode("zorks"));  // part of another word
  EXPECT_EQ(t.encode("azork"), tokenizer().encode("azork"));
  EXPECT_EQ(t.encode("zork1"), tokenizer().encode("zork1"));
  EXPECT_EQ(t.encode("a<cat>a"), a + cat + a);
  EXPECT_EQ(t.encode(",<cat>,"), comma + cat + comma);
  EXPECT_EQ(t.encode("cafe\xcc\x81"), std::vector<int32_t>{5006});  // in any normal form
  EXPECT_EQ(t.word_length(5001), 3);
  EXPECT_EQ(t.word_length(a[0]), 1);
}

TEST(LearnedWords, RefusesWordsThatNoPromptCanHold) {
  Tokenizer t = tokenizer();
  t.add_word("zork", 5000, 1);
  for (const char* bad : {"", "two words", "zork", "ZORK", "<|endoftext|>"})
    EXPECT_TRUE(error_of([&] { t.add_word(bad, 6000, 1); }).starts_with("2: ")) << bad;
}

TEST(LearnedWords, AreCountedAndNotTornApart) {
  Tokenizer t = tokenizer();
  t.add_word("zork", 5000, 4);
  std::string text;
  for (int i = 0; i < 72; ++i) text += "a ";
  std::vector<PromptChunk> chunks = tokenize_prompt(t, text + "(zork:1.5) a", t.end_id());
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].end_index, 73);
  EXPECT_EQ(chunks[1].end_index, 6);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(chunks[1].ids[size_t(1 + i)], 5000 + i);
    EXPECT_EQ(chunks[1].weights[size_t(1 + i)], 1.5f);
  }
  EXPECT_EQ(chunks[1].weights[5], 1.0f);
  // Fits: 71 and 4.
  chunks = tokenize_prompt(t, text.substr(2) + "zork", t.end_id());
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].end_index, 76);
  // After a comma near the end, what follows it moves with the word.
  chunks = tokenize_prompt(t, text.substr(4) + ", a zork", t.end_id());
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].end_index, 72);
  EXPECT_EQ(chunks[1].end_index, 6);
}

class Files : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::vector<std::pair<std::string, Shape>>& tensors,
                   float value = 0.25f) {
    SafetensorsWriter w;
    for (const auto& [tensor, shape] : tensors)
      w.add(tensor, DType::f16, shape, std::vector<float>(size_t(shape.elements()), value));
    w.save(folder_.file(name));
    return folder_.file(name);
  }
  TemporaryFolder folder_;
};

TEST_F(Files, TheirForms) {
  const TextualInversion a = read_textual_inversion(file("Bad-Hands.safetensors", {{"emb_params", {3, 32}}}));
  EXPECT_EQ(a.word, "Bad-Hands");
  EXPECT_EQ(a.summary(), "3 vectors of 32");
  EXPECT_EQ(a.sets.at("").values, std::vector<float>(96, 0.25f));
  const TextualInversion b = read_textual_inversion(file("learned_embeds.safetensors", {{"<cat-toy>", {32}}}));
  EXPECT_EQ(b.word, "<cat-toy>");
  EXPECT_EQ(b.summary(), "1 vector of 32");
  const TextualInversion c =
      read_textual_inversion(file("xl.safetensors", {{"clip_l", {2, 32}}, {"clip_g", {2, 48}}}) + ":word");
  EXPECT_EQ(c.word, "word");
  EXPECT_EQ(c.sets.at("clip_g").width, 48);
  const std::vector<TextualInversion> all = {c, c};
  const std::vector<LearnedWord> words = learned_words(all, "text_encoder_2", 1000, 48);
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[1].first, 1002);
}

TEST_F(Files, AsTheWebUIsSaveThemWithTorch) {
  const TextualInversion t = read_textual_inversion(golden_path("torch/embedding.pt"));
  EXPECT_EQ(t.word, "embedding");
  EXPECT_EQ(t.sets.at("").values, (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(Files, AreRefusedInOneLine) {
  const auto error = [&](const std::string& spec) { return error_of([&] { read_textual_inversion(spec); }); };
  EXPECT_NE(error(file("a", {{"x", {3, 32}}, {"y", {3, 32}}})).find("no textual inversion"), std::string::npos);
  EXPECT_NE(error(file("b", {{"emb_params", {3, 3, 3}}})).find("no list of vectors"), std::string::npos);
  EXPECT_NE(error(file("c", {{"emb_params", {0, 32}}})).find("no list of vectors"), std::string::npos);
  EXPECT_NE(error(file("d", {{"emb_params", {1, 32}}}, NAN)).find("NaN"), std::string::npos);
  EXPECT_NE(error(file("e", {{"clip_l", {1, 32}}, {"clip_g", {2, 48}}})).find("for the other"), std::string::npos);
  EXPECT_TRUE(error(":x").starts_with("2: --embedding"));
  const std::vector<TextualInversion> narrow = {read_textual_inversion(file("f", {{"emb_params", {1, 31}}}))};
  EXPECT_NE(error_of([&] { learned_words(narrow, "text_encoder", 1000, 32); }).find("another family"),
            std::string::npos);
}

// A picture of a prompt with a learned word, and of one with the words whose vectors it has.
class Pictures : public ::testing::TestWithParam<const char*> {};
TEST_P(Pictures, AWordWithTheVectorsOfOthersMeansTheSame) {
  TemporaryFolder f;
  const std::string model = golden_path(std::string("models/") + GetParam());
  const auto checkpoint = open_checkpoint(model);
  const bool xl = checkpoint->has_component("text_encoder_2");
  SafetensorsWriter w;
  for (const auto& [component, folder, set] : {std::tuple("text_encoder", "tokenizer", xl ? "clip_l" : "emb_params"),
                                               {"text_encoder_2", "tokenizer_2", "clip_g"}}) {
    if (!checkpoint->has_component(component)) continue;
    const Tokenizer t(checkpoint->required_text(std::string(folder) + "/merges.txt"), std::nullopt, folder);
    const WeightView table = checkpoint->find(std::string(component) + "/text_model.embeddings.token_embedding.weight");
    const int64_t width = table.shape[1];
    std::vector<float> rows;
    for (int32_t id : t.encode("red cat")) {
      rows.resize(rows.size() + size_t(width));
      read_elements(table.dtype, table.data, id * width, width, rows.data() + rows.size() - size_t(width));
    }
    ASSERT_GT(rows.size(), size_t(width));
    w.add(set, DType::f32, {int64_t(rows.size()) / width, width}, rows);
  }
  w.save(f.file("zork.safetensors"));
  const auto picture = [&](const std::string& prompt, bool learned) {
    PipelineOptions options;
    if (learned) options.embeddings.push_back(read_textual_inversion(f.file("zork.safetensors")));
    Pipeline pipeline(open_checkpoint(model), options);
    Request q;
    q.prompt = prompt;
    q.width = q.height = 64;
    q.steps = 2;
    return pipeline.generate(pipeline.resolve(q))->pixels;
  };
  const std::vector<uint8_t> plain = picture("a (red cat:1.3) on a hill", false);
  EXPECT_EQ(picture("a (zork:1.3) on a hill", true), plain);
  EXPECT_EQ(picture("a (red cat:1.3) on a hill", true), plain);  // the others keep their meaning
  EXPECT_NE(picture("a zork on a hill", true), plain);
}
INSTANTIATE_TEST_SUITE_P(Tiny, Pictures, ::testing::Values("tiny-sd15", "tiny-sd21", "tiny-sdxl"),
                         [](const auto& info) { return std::string(info.param).substr(5); });

}  // namespace
}  // namespace darkroom::testing

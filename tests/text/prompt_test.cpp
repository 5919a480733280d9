// Weights, escapes, BREAK and chunks, with the meaning that web UIs gave them.
#include "model/prompt.h"

#include <gtest/gtest.h>

#include <numeric>

#include "runtime/mapped_file.h"
#include "tests/support/golden.h"

namespace darkroom::testing {
namespace {

Tokenizer tokenizer() {
  return Tokenizer(read_text_file(golden_path("models/tiny-sd15/tokenizer/merges.txt")), std::nullopt, "merges");
}

void expect_parts(std::string_view prompt, const std::vector<std::pair<std::string, float>>& expected) {
  SCOPED_TRACE(std::string(prompt));
  const std::vector<WeightedText> parts = parse_prompt(prompt);
  ASSERT_EQ(parts.size(), expected.size());
  for (size_t i = 0; i < parts.size(); ++i) {
    EXPECT_EQ(parts[i].text, expected[i].first);
    EXPECT_NEAR(parts[i].weight, expected[i].second, 1e-5);
  }
}

TEST(Prompt, Weights) {
  expect_parts("normal text", {{"normal text", 1}});
  expect_parts("an (important) word", {{"an ", 1}, {"important", 1.1f}, {" word", 1}});
  expect_parts("(unbalanced", {{"unbalanced", 1.1f}});
  expect_parts("\\(literal\\]", {{"(literal]", 1}});
  expect_parts("(unnecessary)(parens)", {{"unnecessaryparens", 1.1f}});
  expect_parts("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).", {{"a ", 1},
                                                                       {"house", 1.573f},
                                                                       {" ", 1.1f},
                                                                       {"on", 1},
                                                                       {" a ", 1.1f},
                                                                       {"hill", 0.55f},
                                                                       {", sun, ", 1.1f},
                                                                       {"sky", 1.4641f},
                                                                       {".", 1.1f}});
  expect_parts("time 10:30", {{"time 10:30", 1}});
  expect_parts("", {{"", 1}});
  expect_parts("a) b]", {{"a) b]", 1}});
  expect_parts("((a:1e30):1e30)", {{"a", 1e4f}});
}

TEST(Prompt, BreakBeginsAChunk) {
  const Tokenizer t = tokenizer();
  EXPECT_EQ(tokenize_prompt(t, "a cat BREAK a dog", t.end_id()).size(), 2u);
  EXPECT_EQ(tokenize_prompt(t, "a cat BREAKFAST", t.end_id()).size(), 1u);
  const PromptChunk alone = tokenize_prompt(t, "a dog", t.end_id())[0];
  EXPECT_EQ(tokenize_prompt(t, "a cat BREAK a dog", t.end_id())[1].ids, alone.ids);
}

TEST(Prompt, LongOnesAreCutAfterACommaNearTheEnd) {
  const Tokenizer t = tokenizer();
  const int32_t word = t.encode("a")[0], comma = t.encode(",")[0];
  std::string text;
  for (int i = 0; i < 60; ++i) text += "a ";
  text += ", ";
  for (int i = 0; i < 30; ++i) text += "a ";
  std::vector<PromptChunk> chunks = tokenize_prompt(t, text, 0);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].end_index, 62);  // begin, 60 words, the comma
  EXPECT_EQ(chunks[0].ids[61], comma);
  EXPECT_EQ(chunks[1].end_index, 31);
  EXPECT_EQ(chunks[1].ids[1], word);
  EXPECT_EQ(chunks[0].ids[76], 0);
  text.clear();
  for (int i = 0; i < 76; ++i) text += "a ";
  chunks = tokenize_prompt(t, text, t.end_id());
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].end_index, 76);
  EXPECT_EQ(chunks[1].end_index, 2);
  EXPECT_EQ(tokenize_prompt(t, text.substr(2), t.end_id()).size(), 1u);
}

TEST(Prompt, WeightsKeepTheMean) {
  const Tokenizer t = tokenizer();
  const PromptChunk chunk = tokenize_prompt(t, "a (cat:1.5)", t.end_id())[0];
  std::vector<float> hidden(77 * 4);
  std::iota(hidden.begin(), hidden.end(), 1.0f);
  const std::vector<float> before = hidden;
  apply_weights(chunk, hidden.data(), 4);
  EXPECT_NEAR(std::accumulate(hidden.begin(), hidden.end(), 0.0) / std::accumulate(before.begin(), before.end(), 0.0),
              1.0, 1e-6);
  const float other = hidden[0] / before[0];
  bool raised = false;
  for (size_t i = 0; i < 77; ++i)
    if (chunk.weights[i] == 1.5f) {
      EXPECT_NEAR(hidden[i * 4] / before[i * 4], 1.5f * other, 1e-5);
      raised = true;
    }
  EXPECT_TRUE(raised);
}

}  // namespace
}  // namespace darkroom::testing

// Prompts as people write them for the web UIs: weights, escapes, BREAK, and more than 75 tokens.
//
//   (word)        weight 1.1, nested ones multiply         (word:1.3)  that weight
//   [word]        weight 1/1.1                             \( \) \[ \] \\   the character itself
//   BREAK         the next chunk begins
//
// A prompt's tokens are cut into chunks of 75, if a comma is among the last 20 then after it; each is encoded on its own and
// the results stand one after the other in the context. Weights multiply the hidden states of their tokens; then the whole
// is scaled so that its mean stays what it was.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace darkroom {

struct WeightedText {
  std::string text;
  float weight = 1.0f;
  bool starts_chunk = false;  // BREAK stood before it

  bool operator==(const WeightedText&) const = default;
};
std::vector<WeightedText> parse_prompt(std::string_view prompt);

// One run of the text encoder.
struct PromptChunk {
  std::vector<int32_t> ids;    // length of them, with begin, end and padding
  std::vector<float> weights;  // of each
  int32_t end_index = 0;       // of the end token: where pooled outputs are taken
};

// At least one chunk; each of `length` tokens. pad_id: what follows the end token. Words that were added to the tokenizer have
// at most length − 2 ids.
std::vector<PromptChunk> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt, int32_t pad_id,
                                         int length = 77);
// A chunk of no words: to make two prompts equally long.
PromptChunk empty_chunk(const Tokenizer& tokenizer, int32_t pad_id, int length = 77);

// hidden [ids, width] of one chunk: multiplies each row by its weight and restores the mean. Leaves it alone where all are 1.
void apply_weights(const PromptChunk& chunk, float* hidden, size_t width);

}  // namespace darkroom

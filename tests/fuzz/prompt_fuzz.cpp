// A prompt: its parts have finite weights, its chunks the length that the text encoder takes.
#include "model/prompt.h"

#include <cmath>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  static const Tokenizer tokenizer = [] {
    Tokenizer t("#version: 0.2\na b\nc a\nca t</w>\n", std::nullopt, "tokenizer");
    t.add_word("zork", 10000, 30);
    return t;
  }();
  constexpr int kLength = 77;
  fuzzing::run([&] {
    const std::vector<PromptChunk> chunks =
        tokenize_prompt(tokenizer, fuzzing::text_of(data, size), tokenizer.end_id(), kLength);
    fuzzing::require(!chunks.empty(), "no chunk");
    for (const PromptChunk& c : chunks) {
      fuzzing::require(c.ids.size() == kLength && c.weights.size() == kLength, "a chunk of another length");
      fuzzing::require(c.end_index >= 1 && c.end_index < kLength && c.ids[size_t(c.end_index)] == tokenizer.end_id(),
                       "no end token at the end");
      for (float w : c.weights) fuzzing::require(std::isfinite(w), "a weight that is not finite");
      for (size_t i = 0; i < c.ids.size(); ++i)
        if (c.ids[i] == 10000) fuzzing::require(i + 29 < c.ids.size() && c.ids[i + 29] == 10029, "a word torn apart");
      std::vector<float> hidden(kLength * 2, 1.0f);
      apply_weights(c, hidden.data(), 2);
    }
  });
  return 0;
}

// A letter that says what follows: a text to encode, a merges file, or a vocabulary.
#include "model/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr std::string_view kMerges = "#version: 0.2\na b\nc a\nca t</w>\nab c</w>\nd o\n, ,</w>\n";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  if (size == 0) return 0;
  static const Tokenizer tokenizer = [] {
    Tokenizer t(kMerges, std::nullopt, "tokenizer");
    t.add_special("!");
    t.add_word("zork", 10000, 3);
    t.add_word("<z>", 10003, 1);
    return t;
  }();
  const std::string_view text = fuzzing::text_of(data + 1, size - 1);
  fuzzing::run([&] {
    switch (data[0] % 4) {
      case 0:
        for (int32_t id : tokenizer.encode(text))
          fuzzing::require((id >= 0 && id < int32_t(tokenizer.vocabulary_size())) || (id >= 10000 && id < 10004),
                           "an id that nothing has");
        break;
      case 1:
        Tokenizer(text, std::nullopt, "merges").encode("a cat, abc");
        break;
      case 2:
        Tokenizer(kMerges, text, "vocabulary").encode("a cat, abc");
        break;
      default: {
        Tokenizer t(kMerges, std::nullopt, "tokenizer");
        t.add_word(text, 10000, 2);
        const std::vector<int32_t> ids = t.encode(text);
        fuzzing::require(ids == std::vector<int32_t>{10000, 10001}, "an added word is not found");
      }
    }
  });
  return 0;
}

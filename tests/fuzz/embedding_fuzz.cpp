// Bytes as a textual inversion.
#include "model/textual_inversion.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  const fuzzing::MemoryFile file(fuzzing::text_of(data, size));
  fuzzing::run([&] {
    const TextualInversion t = read_textual_inversion(file.path());
    const std::vector<TextualInversion> all = {t};
    learned_words(all, "text_encoder", 1000, 768);
  });
  return 0;
}

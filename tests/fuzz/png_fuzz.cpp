// Bytes as a PNG file whose text chunks say how it was made.
#include "tests/fuzz/fuzz.h"
#include "tools/common/image_io.h"
#include "tools/sdrun/parameters.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  const fuzzing::MemoryFile file(fuzzing::text_of(data, size));
  fuzzing::run([&] {
    if (const auto text = read_png_text(file.path(), "parameters")) parse_parameters(*text, "picture");
  });
  return 0;
}

// Bytes as a picture that is begun with, and as a PNG file whose text chunks say how it was made.
#include "tests/fuzz/fuzz.h"
#include "tools/common/image_io.h"
#include "tools/sdrun/parameters.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  const fuzzing::MemoryFile file(fuzzing::text_of(data, size));
  fuzzing::run([&] {
    const auto text = read_png_text(file.path(), "parameters");
    if (!text) return;
    for (const auto& entry : parse_parameters(*text, "picture"))
      fuzzing::run([&] {
        parse_number<int>(entry.second, entry.first, "picture");
        parse_number<double>(entry.second, entry.first, "picture");
      });
  });
  fuzzing::run([&] {
    const Image image = read_image(file.path());
    fuzzing::require(image.pixels.size() == size_t(image.width) * size_t(image.height) * 3, "pixels are missing");
  });
  return 0;
}

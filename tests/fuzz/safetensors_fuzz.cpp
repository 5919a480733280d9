// Bytes as a safetensors file: what the reader accepts lies within the file.
#include "runtime/safetensors.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace darkroom;
  const fuzzing::MemoryFile file(fuzzing::text_of(data, size));
  fuzzing::run([&] {
    const Safetensors tensors(file.path());
    unsigned sum = 0;
    for (const auto& [name, entry] : tensors.entries()) {
      fuzzing::require(entry.offset <= size && entry.bytes <= size - entry.offset, "a tensor outside of its file");
      if (entry.bytes > 0) sum += unsigned(tensors.data(entry)[0]) + unsigned(tensors.data(entry)[entry.bytes - 1]);
      tensors.release(entry);
    }
    fuzzing::require(sum <= tensors.entries().size() * 2 * 255, "bytes above 255");  // keeps the reads above
  });
  return 0;
}

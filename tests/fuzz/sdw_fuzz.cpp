// Bytes as a .sdw file. Its checksums are put right first: they would stop nearly every input at the door.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

#include "model/sdw_checkpoint.h"
#include "runtime/weight_file_layout.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace darkroom;

std::string with_checksums(std::string file) {
  sdw::Header h;
  sdw::Trailer t;
  if (file.size() < sizeof(h) + sizeof(t)) return file;
  std::memcpy(&h, file.data(), sizeof(h));
  std::memcpy(&t, file.data() + file.size() - sizeof(t), sizeof(t));
  if (h.directory_offset <= file.size() && h.directory_bytes <= file.size() - h.directory_offset)
    h.directory_checksum = XXH3_64bits(file.data() + h.directory_offset, h.directory_bytes);
  h.checksum = XXH3_64bits(&h, sizeof(h) - 8);
  t.directory_checksum = h.directory_checksum;
  t.checksum = XXH3_64bits(&t, sizeof(t) - 8);
  std::memcpy(file.data(), &h, sizeof(h));
  std::memcpy(file.data() + file.size() - sizeof(t), &t, sizeof(t));
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzzing::MemoryFile file(with_checksums(std::string(fuzzing::text_of(data, size))));
  fuzzing::run([&] {
    const SdwCheckpoint model(file.path());
    for (const std::string& name : model.texts()) model.text(name);
    for (const std::string& name : model.tensors()) {
      fuzzing::run([&] {
        const WeightView view = model.find(name);
        std::vector<float> values(size_t(view.shape.elements()));
        read_elements(view.dtype, view.data, 0, view.shape.elements(), values.data());
      });
      model.release(name);
    }
  });
  return 0;
}

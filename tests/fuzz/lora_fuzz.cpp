// Either the bytes of a LoRA file, where the first is above 127; or lines, each the name of a tensor in one.
#include "model/lora_file.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/fuzz/fuzz.h"

namespace {

using namespace darkroom;

void read_lora(std::string_view bytes) {
  const fuzzing::MemoryFile file(bytes);
  fuzzing::run([&] {
    const LoraFile lora(file.path());
    lora.family();
    for (const auto& [name, layer] : lora.layers()) {
      const std::vector<float> up = lora.up(layer), down = lora.down(layer);
      fuzzing::require(!up.empty() && !down.empty(), "a part without numbers");
    }
  });
}

// A file in which each name has one number.
std::string file_of_names(std::string_view lines) {
  nlohmann::json header = nlohmann::json::object();
  size_t at = 0;
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    const std::string name(lines.substr(0, end));
    lines.remove_prefix(std::min(end + 1, lines.size()));
    if (header.contains(name)) continue;
    header[name] = {{"dtype", "F32"}, {"shape", {1, 1}}, {"data_offsets", {at, at + 4}}};
    at += 4;
  }
  const std::string json = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string file;
  for (int i = 0; i < 8; ++i) file += char(uint64_t(json.size()) >> (8 * i));
  return file + json + std::string(at, '\0');
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  if (data[0] > 127)
    read_lora(fuzzing::text_of(data + 1, size - 1));
  else
    read_lora(file_of_names(fuzzing::text_of(data, size)));
  return 0;
}

#include "tests/support/golden.h"

#include <cstring>
#include <filesystem>
#include <stdexcept>

namespace darkroom::testing {

namespace {

template <typename T>
void append(const std::byte* data, size_t bytes, std::vector<float>& out) {
  for (size_t i = 0; i + sizeof(T) <= bytes; i += sizeof(T)) {
    T x;
    std::memcpy(&x, data + i, sizeof(T));
    if constexpr (std::is_same_v<T, f16_t> || std::is_same_v<T, bf16_t>)
      out.push_back(to_float(x));
    else
      out.push_back(float(x));
  }
}

}  // namespace

std::string golden_path(const std::string& name) { return DARKROOM_SOURCE_DIR "/tests/golden/" + name; }

std::string shared_golden_path(const std::string& name) {
  for (std::filesystem::path p = DARKROOM_SOURCE_DIR; p.has_relative_path(); p = p.parent_path())
    if (const auto found = p / "shared" / "goldens" / name; std::filesystem::exists(found)) return found.string();
  return "";
}

std::vector<float> tensor(const Safetensors& file, const std::string& name) {
  const SafetensorsEntry* e = file.find(name);
  if (!e) throw std::runtime_error(file.path() + ": has no tensor " + name);
  std::vector<float> out;
  const std::byte* data = file.data(*e);
  switch (e->dtype) {
    case DType::f32:
      append<float>(data, e->bytes, out);
      break;
    case DType::f64:
      append<double>(data, e->bytes, out);
      break;
    case DType::f16:
      append<f16_t>(data, e->bytes, out);
      break;
    case DType::bf16:
      append<bf16_t>(data, e->bytes, out);
      break;
    case DType::i64:
      append<int64_t>(data, e->bytes, out);
      break;
    case DType::i32:
      append<int32_t>(data, e->bytes, out);
      break;
    case DType::u8:
      append<uint8_t>(data, e->bytes, out);
      break;
    case DType::none:
      throw std::runtime_error(file.path() + ": " + name + " is " + e->dtype_text);
  }
  return out;
}

}  // namespace darkroom::testing

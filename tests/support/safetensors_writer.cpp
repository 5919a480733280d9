#include "tests/support/safetensors_writer.h"

#include <nlohmann/json.hpp>

#include "runtime/weight_source.h"
#include "tests/support/files.h"

namespace darkroom::testing {

void SafetensorsWriter::add(const std::string& name, DType dtype, const Shape& shape, std::span<const float> values) {
  Tensor t{dtype, shape, std::string(values.size() * dtype_size(dtype), '\0')};
  write_elements(dtype, values.data(), int64_t(values.size()), reinterpret_cast<std::byte*>(t.data.data()));
  tensors_[name] = std::move(t);
}

std::string SafetensorsWriter::bytes() const {
  nlohmann::json header;
  if (!metadata_.empty()) header["__metadata__"] = metadata_;
  std::string data;
  for (const auto& [name, t] : tensors_) {
    nlohmann::json shape = nlohmann::json::array();
    for (int i = 0; i < t.shape.rank(); ++i) shape.push_back(t.shape[i]);
    header[name] = {{"dtype", t.dtype == DType::f32   ? "F32"
                              : t.dtype == DType::f16 ? "F16"
                                                      : "BF16"},
                    {"shape", shape},
                    {"data_offsets", {data.size(), data.size() + t.data.size()}}};
    data += t.data;
  }
  return safetensors_bytes(header.dump(), data);
}

void SafetensorsWriter::save(const std::string& path) const { write_file(path, bytes()); }

}  // namespace darkroom::testing

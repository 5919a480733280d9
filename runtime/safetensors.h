// Reader of the safetensors format: u64 header length, a JSON object from tensor names to {dtype, shape, data_offsets}, data.
// Strict: every rule of the format is held, and every error names the file and the tensor.
// Source: the format's description in the safetensors project.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/core/dtype.h"
#include "runtime/mapped_file.h"

namespace darkroom {

struct SafetensorsEntry {
  std::string dtype_text;     // as the file says: "F32"
  DType dtype = DType::none;  // none for types that we have no use for (BOOL, F8_E4M3 ...)
  std::vector<int64_t> shape;
  size_t offset = 0;  // of its first byte in the file
  size_t bytes = 0;
};

class Safetensors {
 public:
  // Maps the file and reads its header. Throws file_error.
  explicit Safetensors(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, SafetensorsEntry, std::less<>>& entries() const { return entries_; }
  // __metadata__
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  const SafetensorsEntry* find(std::string_view name) const;
  const std::byte* data(const SafetensorsEntry& entry) const { return file_.data() + entry.offset; }
  void release(const SafetensorsEntry& entry) const { release(data(entry), entry.bytes); }
  void release(const std::byte* begin, size_t bytes) const { file_.release(begin, bytes); }

 private:
  MappedFile file_;
  std::map<std::string, SafetensorsEntry, std::less<>> entries_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace darkroom

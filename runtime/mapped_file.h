// A file in memory, read-only. What is not looked at is not read.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace darkroom {

class MappedFile {
 public:
  // Throws file_error where the file cannot be opened, is no regular file, or is empty.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // These bytes may leave memory: they will be read again from the file if they are looked at again.
  void release(const std::byte* begin, size_t bytes) const;

 private:
  std::string path_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The whole text of a small file. Throws file_error where it cannot be read or is larger than `limit` bytes.
std::string read_text_file(const std::string& path, size_t limit = size_t(64) << 20);

}  // namespace darkroom

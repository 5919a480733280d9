// A file that is there as a whole or not at all: written beside its target, renamed onto it when it is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace darkroom {

class AtomicFile {
 public:
  // Throws file_error where the folder cannot be written to.
  explicit AtomicFile(const std::string& path);
  // Without commit() nothing remains.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Throw file_error, naming the file, where the disk is full.
  void write(const void* data, size_t bytes);
  void write_at(uint64_t offset, const void* data, size_t bytes);
  uint64_t size() const { return size_; }

  // Flushes to the disk and renames. Throws file_error.
  void commit();

 private:
  std::string path_, temporary_;
  int file_ = -1;
  uint64_t size_ = 0;
};

}  // namespace darkroom

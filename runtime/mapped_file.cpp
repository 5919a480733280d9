#include "runtime/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/core/error.h"

namespace darkroom {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw file_error("{}: {}", path, std::strerror(errno));
  struct stat info;
  if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(file);
    throw file_error("{}: is not a file", path);
  }
  size_ = size_t(info.st_size);
  if (size_ == 0) {
    close(file);
    throw file_error("{}: is empty", path);
  }
  void* memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
  const int error = errno;
  close(file);
  if (memory == MAP_FAILED && error == ENOMEM)
    throw resource_error("{}: no address space for its {} MiB; is there a limit (ulimit -v)?", path, size_ >> 20);
  if (memory == MAP_FAILED) throw file_error("{}: cannot be mapped: {}", path, std::strerror(error));
  data_ = static_cast<std::byte*>(memory);
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

void MappedFile::release(const std::byte* begin, size_t bytes) const {
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  // Whole pages only: the first and last may hold others' bytes.
  const size_t from = (size_t(begin - data_) + page - 1) / page * page,
               to = size_t(begin - data_ + std::ptrdiff_t(bytes)) / page * page;
  if (to > from) madvise(data_ + from, to - from, MADV_DONTNEED);
}

std::string read_text_file(const std::string& path, size_t limit) {
  const MappedFile file(path);
  if (file.size() > limit)
    throw file_error("{}: has {} bytes; more than {} are not expected of it", path, file.size(), limit);
  return std::string(file.text());
}

}  // namespace darkroom

#include "runtime/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/core/error.h"

namespace darkroom {

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(path + ".XXXXXX") {
  struct stat info;
  if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) throw file_error("{}: is a folder", path);
  file_ = mkostemp(temporary_.data(), O_CLOEXEC);
  if (file_ < 0) throw file_error("{}: cannot be written: {}", path, std::strerror(errno));
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(file_, 0666 & ~mask);
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) { write_at(size_, data, bytes); }

void AtomicFile::write_at(uint64_t offset, const void* data, size_t bytes) {
  const char* from = static_cast<const char*>(data);
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = pwrite(file_, from + done, bytes - done, off_t(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw file_error("{}: cannot be written: {}", path_, std::strerror(errno));
    done += size_t(n);
  }
  if (offset + bytes > size_) size_ = offset + bytes;
}

void AtomicFile::commit() {
  if (fsync(file_) != 0 || close(file_) != 0) {
    file_ = -1;
    unlink(temporary_.c_str());
    throw file_error("{}: cannot be written: {}", path_, std::strerror(errno));
  }
  file_ = -1;
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    throw file_error("{}: cannot be replaced: {}", path_, std::strerror(error));
  }
}

}  // namespace darkroom

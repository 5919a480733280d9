#include "tests/fuzz/fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace darkroom::fuzzing {

MemoryFile::MemoryFile(std::string_view bytes) : file_(memfd_create("input", MFD_CLOEXEC)) {
  path_ = "/proc/self/fd/" + std::to_string(file_);
  size_t done = 0;
  while (file_ >= 0 && done < bytes.size()) {
    const ssize_t n = write(file_, bytes.data() + done, bytes.size() - done);
    if (n <= 0) break;
    done += size_t(n);
  }
  require(done == bytes.size(), "no memory for a file");
}

MemoryFile::~MemoryFile() { close(file_); }

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "finding: %s\n", what);
  std::abort();
}

void check_message(const Error& error) {
  const std::string_view message = error.what();
  require(error.kind() == ErrorKind::file || error.kind() == ErrorKind::usage || error.kind() == ErrorKind::resource,
          error.what());
  require(!message.empty(), "an error without a message");
}

}  // namespace darkroom::fuzzing

// What the fuzz targets share. Each NAME_fuzz.cpp defines LLVMFuzzerTestOneInput: with clang and DARKROOM_BUILD_FUZZERS it becomes a
// libFuzzer program, else replay_main.cpp runs it over the files of tests/fuzz/corpus/NAME, which ctest does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace darkroom::fuzzing {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Bytes in memory that have a path, for readers that take one.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  int file_;
  std::string path_;
};

// Ends the process where something is wrong that no input may cause.
void require(bool condition, const char* what);
void check_message(const Error& error);

// Runs `f`. It may throw darkroom::Error about its input; anything else is a finding.
template <typename F>
void run(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    check_message(e);
  }
}

}  // namespace darkroom::fuzzing

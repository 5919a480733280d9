// Files for tests: a folder of their own that goes away, and whole files in one call.
#pragma once

#include <cstdint>
#include <string>

namespace darkroom::testing {

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

void write_file(const std::string& path, const std::string& bytes);
std::string read_file(const std::string& path);

// A safetensors file from its header (JSON) and data.
std::string safetensors_bytes(const std::string& header, const std::string& data);

// Runs a command by the shell. `output` holds stdout and stderr together.
struct CommandResult {
  int exit_code;
  std::string output;
};
CommandResult run_command(const std::string& command);

// What `f` throws as darkroom::Error, with its exit code before it: "3: file.safetensors: ..."; "" where it does not throw.
template <typename F>
std::string error_of(F f);

}  // namespace darkroom::testing

#include "kernels/core/error.h"

namespace darkroom::testing {

template <typename F>
std::string error_of(F f) {
  try {
    f();
  } catch (const Error& e) {
    return std::to_string(int(e.kind())) + ": " + e.what();
  }
  return "";
}

}  // namespace darkroom::testing

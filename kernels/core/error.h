// The one exception type of the project. Thrown at load and plan time only; a running plan does not throw.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace darkroom {

// What went wrong, as far as a caller must tell it apart. The programs use the value as their exit code.
enum class ErrorKind {
  internal = 1,    // a bug here: an invariant of the engine does not hold
  usage = 2,       // wrong arguments
  file = 3,        // a bad, missing or unsupported file
  resource = 4,    // not enough memory, or no such device
  cancelled = 130  // the user interrupted
};

// One line: what, where (file and offset, or node, op and shapes), what to do. No trailing full stop is needed.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

// throw usage_error("--steps: {} is not between 1 and 1000", n);
template <typename... Args>
Error make_error(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return Error(kind, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
Error usage_error(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorKind::usage, format, std::forward<Args>(args)...);
}
template <typename... Args>
Error file_error(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorKind::file, format, std::forward<Args>(args)...);
}
template <typename... Args>
Error resource_error(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorKind::resource, format, std::forward<Args>(args)...);
}
template <typename... Args>
Error internal_error(fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorKind::internal, format, std::forward<Args>(args)...);
}

}  // namespace darkroom

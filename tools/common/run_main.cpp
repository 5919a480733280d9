#include "tools/common/run_main.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <ctime>
#include <new>

#include "kernels/core/cpu.h"
#include "kernels/core/error.h"

namespace darkroom {

namespace {

std::atomic<bool> interrupt_flag{false};
std::atomic<int64_t> interrupted_at{0};  // milliseconds of the monotonic clock

// Names from files may hold anything; a message is one line.
std::string one_line(std::string text) {
  for (char& c : text)
    if (uint8_t(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

// Programs that run others (timeout, make, npm) pass a Ctrl-C on that arrives by itself as well: what follows at once is no second wish.
void on_signal(int signal) {
  constexpr int64_t kEcho = 250;  // milliseconds
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t at = int64_t(now.tv_sec) * 1000 + now.tv_nsec / 1'000'000;
  int64_t first = 0;
  interrupt_flag = true;
  if (!interrupted_at.compare_exchange_strong(first, at) && at - first >= kEcho) std::_Exit(128 + signal);
}

}  // namespace

const std::atomic<bool>* interrupted() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  return &interrupt_flag;
}

std::string version_text() {
  return fmt::format("darkroom {} ({}, {})", DARKROOM_VERSION, isa_name(active_isa()), cpu_name());
}

bool parse_arguments(CLI::App& app, int argc, char** argv, int* exit_code) {
  try {
    app.parse(argc, argv);
    return true;
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    *exit_code = 0;
  } catch (const CLI::CallForVersion& e) {
    fmt::print("{}\n", e.what());
    *exit_code = 0;
  } catch (const CLI::ParseError& e) {
    fmt::print(stderr, "{}: {} (--help tells more)\n", app.get_name(), e.what());
    *exit_code = 2;
  }
  return false;
}

int run_main(const char* program, int argc, char** argv, int (*body)(int, char**)) {
  try {
    return body(argc, argv);
  } catch (const Error& e) {
    fmt::print(stderr, "{}: {}\n", program, one_line(e.what()));
    return int(e.kind());
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "{}: out of memory\n", program);
    return int(ErrorKind::resource);
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", program, e.what());
    return int(ErrorKind::internal);
  }
}

}  // namespace darkroom

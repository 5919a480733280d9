#include "tools/common/progress.h"

#include <fmt/core.h>
#include <unistd.h>
#include <cmath>

#include <cstdio>

namespace darkroom {

namespace {

constexpr int kWidth = 24;
constexpr double kLinesEvery = 0.1;  // of the whole, where it is no terminal

std::string minutes(double seconds) {
  const int s = int(std::lround(seconds));
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

ProgressBar::ProgressBar(std::string label, std::string unit, bool quiet)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      quiet_(quiet),
      terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      shown_(start_) {}

ProgressBar::~ProgressBar() { finish(); }

void ProgressBar::update(double done, double total) {
  if (quiet_ || total <= 0) return;
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - start_).count(), part = done / total;
  const double rate = seconds > 0 ? done / seconds : 0, left = rate > 0 ? (total - done) / rate : 0;
  const std::string speed =
      rate >= 1 || rate == 0 ? fmt::format("{:.2f} {}/s", rate, unit_) : fmt::format("{:.2f} s/{}", 1 / rate, unit_);
  if (terminal_) {
    if (done < total && std::chrono::duration<double>(now - shown_).count() < 0.05) return;
    shown_ = now;
    const int full = int(part * kWidth);
    std::string bar;
    for (int i = 0; i < kWidth; ++i) bar += i < full ? "█" : "░";
    fmt::print(stderr, "\r{} {} {:.0f}/{:.0f}  {}  {} left\033[K", label_, bar, done, total, speed, minutes(left));
    open_ = true;
  } else if (part + 1e-9 >= next_line_) {
    fmt::print(stderr, "{} {:.0f}/{:.0f}  {}  {} left\n", label_, done, total, speed, minutes(left));
    next_line_ = part >= 1 ? 2 : part + kLinesEvery;
  }
  std::fflush(stderr);
}

void ProgressBar::finish() {
  if (open_) fmt::print(stderr, "\n");
  open_ = false;
}

}  // namespace darkroom

// Progress on stderr: a bar that is redrawn on a terminal, a plain line now and then otherwise.
#pragma once

#include <chrono>
#include <string>

namespace darkroom {

class ProgressBar {
 public:
  // `unit`: "it" gives it/s. quiet: prints nothing.
  ProgressBar(std::string label, std::string unit, bool quiet);
  ~ProgressBar();

  // done of total; in the unit's own measure (steps, MiB).
  void update(double done, double total);
  void finish();

 private:
  std::string label_, unit_;
  bool quiet_, terminal_, open_ = false;
  std::chrono::steady_clock::time_point start_, shown_;
  double next_line_ = 0;
};

}  // namespace darkroom

#include <fmt/core.h>

#include <cmath>

#include "tests/parity/parity.h"
#include "tests/support/kernel_call.h"

namespace darkroom::parity {

void Report::value(const std::string& name, double error, double limit, const char* unit) {
  ++compared_;
  const bool good = limit == 0 || error <= limit;  // false for NaN
  if (limit == 0)
    fmt::print("{:<52} {:.3e}            {}\n", name, error, unit);
  else
    fmt::print("{:<52} {:.3e} <= {:.1e} {} {}\n", name, error, limit, unit, good ? "" : "FAILED");
  if (!good) ++failed_;
  if (limit > 0 && !(error / limit <= worst_)) {
    worst_ = error / limit;
    worst_name_ = name;
  }
}

void Report::compare(const std::string& name, const std::vector<float>& mine, const std::vector<float>& golden,
                     double limit) {
  if (mine.size() != golden.size())
    return fail(fmt::format("{}: {} numbers, {} were expected", name, mine.size(), golden.size()));
  value(name, testing::relative_l2(mine, golden), limit);
}

void Report::fail(const std::string& what) {
  fmt::print("{} FAILED\n", what);
  ++failed_;
}

int Report::finish() const {
  if (compared_ == 0) fmt::print("nothing was compared\n");
  fmt::print("largest error over its limit: {:.3f} ({}); {} compared, {} failed\n", worst_, worst_name_, compared_,
             failed_);
  return compared_ == 0 || failed_ > 0 ? 1 : 0;
}

namespace {

// From strides (b, c, p) to pixels outside of channels, or back.
std::vector<float> permute(const std::vector<float>& x, int64_t b, int64_t rows, int64_t columns) {
  std::vector<float> y(x.size());
  for (int64_t n = 0; n < b; ++n)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        y[size_t((n * columns + c) * rows + r)] = x[size_t((n * rows + r) * columns + c)];
  return y;
}

}  // namespace

std::vector<float> to_nhwc(const std::vector<float>& x, int64_t b, int64_t c, int64_t h, int64_t w) {
  return permute(x, b, c, h * w);
}
std::vector<float> to_nchw(const std::vector<float>& x, int64_t b, int64_t h, int64_t w, int64_t c) {
  return permute(x, b, h * w, c);
}

}  // namespace darkroom::parity

// A record of what ran when, as Chrome's trace viewer and Perfetto read it.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace darkroom {

// Events are kept in memory that is reserved beforehand: what does not fit is counted, not stored, so that recording never
// allocates while a plan runs. For one thread: the executor's member 0.
class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Trace(size_t capacity = size_t(1) << 20) : start_(Clock::now()) { events_.reserve(capacity); }

  // `name` and `category` must live as long as the trace.
  void add(std::string_view name, std::string_view category, Clock::time_point begin, Clock::time_point end) {
    if (events_.size() == events_.capacity())
      ++lost_;
    else
      events_.push_back({name, category, begin, end});
  }

  size_t size() const { return events_.size(); }
  // The trace event format: {"traceEvents": [{"name", "cat", "ph": "X", "ts", "dur", ...}]}, times in microseconds.
  std::string to_json() const;

 private:
  struct Event {
    std::string_view name, category;
    Clock::time_point begin, end;
  };
  Clock::time_point start_;
  std::vector<Event> events_;
  size_t lost_ = 0;
};

}  // namespace darkroom

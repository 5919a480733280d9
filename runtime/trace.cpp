#include "runtime/trace.h"

#include <fmt/format.h>

#include <iterator>

namespace darkroom {

namespace {

std::string escaped(std::string_view text) {
  std::string s;
  for (char c : text) {
    if (c == '"' || c == '\\') s += '\\';
    s += c;
  }
  return s;
}

}  // namespace

std::string Trace::to_json() const {
  const auto micro = [](Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); };
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";
  for (size_t i = 0; i < events_.size(); ++i) {
    const Event& e = events_[i];
    fmt::format_to(std::back_inserter(out),
                   "{}{{\"name\":\"{}\",\"cat\":\"{}\",\"ph\":\"X\",\"ts\":{:.3f},\"dur\":{:.3f},\"pid\":1,\"tid\":1}}",
                   i ? ",\n" : "", escaped(e.name), escaped(e.category), micro(e.begin - start_),
                   micro(e.end - e.begin));
  }
  fmt::format_to(std::back_inserter(out), "\n],\"lostEvents\":{}}}\n", lost_);
  return out;
}

}  // namespace darkroom

#include "runtime/json_text.h"

#include "kernels/core/error.h"

namespace darkroom {

nlohmann::json parse_json(std::string_view text, std::string_view where) {
  constexpr int kMaxDepth = 32;
  const auto watch = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kMaxDepth) throw file_error("{}: JSON with more than {} brackets in each other", where, kMaxDepth);
    return true;
  };
  try {
    return nlohmann::json::parse(text, watch);
  } catch (const nlohmann::json::exception& e) {
    throw file_error("{}: no valid JSON: {}", where, e.what());
  }
}

}  // namespace darkroom

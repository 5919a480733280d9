// JSON in files that others wrote.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

namespace darkroom {

// What no file that we read has more of.
struct JsonLimits {
  int depth = 32;              // brackets in each other: the library prints values by recursion
  size_t values = 1'000'000;   // in all
  size_t names = 100'000;      // in one object
  bool no_name_twice = false;  // which JSON allows: the library keeps the last
};

// Throws file_error, beginning with `where`, where the text is no valid JSON, and where it is beyond a limit: before the values take
// memory.
nlohmann::json parse_json(std::string_view text, std::string_view where, const JsonLimits& limits = {});

}  // namespace darkroom

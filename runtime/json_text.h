// JSON in files that others wrote.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace darkroom {

// Throws file_error, beginning with `where`, where the text is no valid JSON, and where it is nested deeper than any file that we
// read: the library prints values by recursion, and a message about such a one would overflow the stack.
nlohmann::json parse_json(std::string_view text, std::string_view where);

}  // namespace darkroom

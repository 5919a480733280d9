// What a file holds, as one number.
#pragma once

#include <string>

namespace darkroom {

// XXH3-128 of all bytes, 32 hexadecimal digits. Throws file_error.
std::string file_hash(const std::string& path);
std::string text_hash(const std::string& text);

}  // namespace darkroom

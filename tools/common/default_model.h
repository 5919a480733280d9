// The model that is used where none is named: Scenes.
#pragma once

#include <string>

namespace darkroom {

// The path of scenes.sdw: what DARKROOM_MODEL says, else beside the program: ../share/darkroom in an installed prefix and in a
// build folder. Throws usage_error where there is none.
std::string default_model();

}  // namespace darkroom

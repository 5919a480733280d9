// Where sdplan tune keeps its measurements, and where sdrun finds them.
#pragma once

#include <memory>
#include <string>

#include "runtime/tuning.h"

namespace darkroom {

// A file for each CPU and instruction set, not for each number of threads: kernels, and with them a picture's bits, must not
// follow the threads. DARKROOM_TUNING names another file, or, empty, none: then "". Else it lies in darkroom/tuning in
// XDG_CACHE_HOME or ~/.cache; "" where there is no HOME.
std::string tuning_path();

// What was measured on this machine; null where nothing was. Throws file_error where the file is damaged.
std::shared_ptr<const Tuning> find_tuning();

}  // namespace darkroom

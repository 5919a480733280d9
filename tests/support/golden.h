// Reads the golden files.
#pragma once

#include <string>
#include <vector>

#include "runtime/safetensors.h"

namespace darkroom::testing {

// Path below tests/golden.
std::string golden_path(const std::string& name);

// Path of goldens that are too large for the repository: below shared/goldens in a folder around the sources; "" where it is absent.
std::string shared_golden_path(const std::string& name);

// A tensor's values as floats (f32, f16, bf16, i64, i32, u8, f64). Throws where the file has none of that name.
std::vector<float> tensor(const Safetensors& file, const std::string& name);

}  // namespace darkroom::testing

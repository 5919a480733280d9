// A tensor as it lies in a file of either kind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/core/dtype.h"

namespace darkroom {

struct StoredTensor {
  std::string dtype_text;     // "F32", as safetensors call the types
  DType dtype = DType::none;  // none for types that we have no use for (BOOL, F8_E4M3 ...)
  std::vector<int64_t> shape;
  // Elements from one index to the next; empty where the tensor is dense and row-major.
  std::vector<int64_t> strides;
  const std::byte* data = nullptr;  // of its first element
  size_t bytes = 0;                 // from its first to the end of its last element
};

// All elements, row-major, as floats. The dtype must be f32, f16 or bf16.
std::vector<float> elements_of(const StoredTensor& tensor);

}  // namespace darkroom

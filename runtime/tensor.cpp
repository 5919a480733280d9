#include "runtime/tensor.h"

#include "runtime/weight_source.h"

namespace darkroom {

std::vector<float> elements_of(const StoredTensor& t) {
  int64_t count = 1;
  for (int64_t d : t.shape) count *= d;
  std::vector<float> values(static_cast<size_t>(count));
  if (t.strides.empty()) {
    read_elements(t.dtype, t.data, 0, count, values.data());
    return values;
  }
  std::vector<int64_t> index(t.shape.size());
  int64_t at = 0;  // in elements, of the one that index names
  for (float& value : values) {
    read_elements(t.dtype, t.data, at, 1, &value);
    for (size_t d = index.size(); d-- > 0;) {
      at += t.strides[d];
      if (++index[d] < t.shape[d]) break;
      at -= t.strides[d] * t.shape[d];
      index[d] = 0;
    }
  }
  return values;
}

}  // namespace darkroom

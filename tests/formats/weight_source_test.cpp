// Numbers of stored weights: what is none is found wherever it stands.
#include "runtime/weight_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace darkroom::testing {
namespace {

TEST(WeightSource, TheFirstNumberThatIsNone) {
  constexpr int64_t kCount = 9000;  // more than two blocks
  for (DType type : {DType::f32, DType::f16, DType::bf16}) {
    const size_t size = dtype_size(type);
    std::vector<float> values(kCount);
    for (int64_t i = 0; i < kCount; ++i) values[size_t(i)] = float(i % 2 ? -i : i) * 7;
    const float most = type == DType::f16 ? 65504.0f : 3.3895314e38f;  // of bf16
    values[5] = most, values[6] = -most, values[7] = 1e-45f;
    std::vector<std::byte> good(size_t(kCount) * size + 1), bad;
    std::byte* data = good.data() + 1;  // aligned to nothing
    write_elements(type, values.data(), kCount, data);
    EXPECT_EQ(first_not_finite(type, data, kCount), -1) << dtype_name(type);
    EXPECT_EQ(first_not_finite(type, data, 0), -1);
    for (const float none : {NAN, -NAN, INFINITY, -INFINITY})
      for (const int64_t at : {int64_t(0), int64_t(4095), int64_t(4096), kCount - 1}) {
        bad = good;
        write_elements(type, &none, 1, bad.data() + 1 + size_t(at) * size);
        EXPECT_EQ(first_not_finite(type, bad.data() + 1, kCount), at) << dtype_name(type) << " " << none;
        EXPECT_EQ(first_not_finite(type, bad.data() + 1, at), -1);
      }
  }
}

}  // namespace
}  // namespace darkroom::testing

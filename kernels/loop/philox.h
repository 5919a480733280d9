// One normal number of torch's CUDA generator, on CPU and GPU: see loop.h.
#pragma once

#include <cmath>
#include <cstdint>

namespace darkroom {

// Element `i` of draw `draw`. In f64 by formula, then rounded: the generator's own f32 lies within 1e-6 of it.
#ifdef __CUDACC__
__host__ __device__
#endif
    static inline float
    philox_normal(uint32_t key0, uint32_t key1, uint32_t draw, uint32_t i) {
  uint32_t c0 = draw, c1 = 0, c2 = i, c3 = 0;
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c0, b = uint64_t(0xCD9E8D57u) * c2;
    c0 = uint32_t(b >> 32) ^ c1 ^ key0;
    c1 = uint32_t(b);
    c2 = uint32_t(a >> 32) ^ c3 ^ key1;
    c3 = uint32_t(a);
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  const double u = (double(c0) + 0.5) * 0x1p-32, v = (double(c1) + 0.5) * 0x1p-32;
#ifdef __CUDA_ARCH__
  // sin() would keep an array in local memory, to reduce angles that do not come up here.
  const double sine = sinpi(2 * v);
#else
  constexpr double kTwoPi = 6.283185307179586476925286766559;
  const double sine = std::sin(v * kTwoPi);
#endif
  return float(std::sqrt(-2.0 * std::log(u)) * sine);
}

}  // namespace darkroom

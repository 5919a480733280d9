#include "bench/kernels/machine.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/core/cpu.h"

namespace darkroom::bench {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

constexpr int64_t kRounds = 4'000'000;
constexpr int kChains = 12;  // enough to hide the latency of two FMA units

// The sum keeps the compiler from dropping the work.
__attribute__((target("avx2,fma"))) float multiply_add_avx2() {
  __m256 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm256_set1_ps(float(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t r = 0; r < kRounds; ++r)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm256_fmadd_ps(x[i], a, b);
  __m256 sum = x[0];
  for (int i = 1; i < kChains; ++i) sum = _mm256_add_ps(sum, x[i]);
  return _mm256_cvtss_f32(sum);
}

float multiply_add_sse() {
  __m128 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm_set1_ps(float(i));
  const __m128 a = _mm_set1_ps(0.999f), b = _mm_set1_ps(0.001f);
  for (int64_t r = 0; r < kRounds; ++r)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm_add_ps(_mm_mul_ps(x[i], a), b);
  __m128 sum = x[0];
  for (int i = 1; i < kChains; ++i) sum = _mm_add_ps(sum, x[i]);
  return _mm_cvtss_f32(sum);
}

}  // namespace

Machine measure_machine(ThreadPool& pool) {
  Machine m;
  const bool avx2 = detected_isa() >= Isa::avx2;
  const double work = double(kRounds) * kChains * (avx2 ? 8 : 4) * 2 * pool.size();
  std::vector<float> sink(static_cast<size_t>(pool.size()));
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto begin = Clock::now();
    pool.run([&](const Team& t) { sink[size_t(t.index)] = avx2 ? multiply_add_avx2() : multiply_add_sse(); });
    m.flops = std::max(m.flops, work / seconds_since(begin));
  }
  constexpr size_t kFloats = size_t(32) << 20;  // far more than any cache
  std::vector<float> from(kFloats, 1.0f), to(kFloats, 0.0f);
  for (int attempt = 0; attempt < 5; ++attempt) {
    const auto begin = Clock::now();
    pool.run([&](const Team& t) {
      const auto [first, last] = t.range(int64_t(kFloats));
      for (int64_t i = first; i < last; ++i) to[size_t(i)] = from[size_t(i)] * 1.5f;
    });
    m.bandwidth = std::max(m.bandwidth, 2.0 * kFloats * sizeof(float) / seconds_since(begin));
  }
  return m;
}

}  // namespace darkroom::bench

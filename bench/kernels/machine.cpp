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

constexpr int64_t kRounds = 4'000'000, kRoundsNow = 300'000;
constexpr int kChains = 12;  // enough to hide the latency of two FMA units
constexpr int kAttempts = 5;
constexpr int kTileShare = 16;  // a multiplication of tiles takes so many cycles: that many times fewer

// Each returns a sum that keeps the compiler from dropping the work; a pass is rounds · kChains instructions.
using Loop = float (*)(int64_t rounds);

__attribute__((target("avx512f"))) float multiply_add_avx512(int64_t rounds) {
  __m512 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm512_set1_ps(float(i));
  const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm512_fmadd_ps(x[i], a, b);
  __m512 sum = x[0];
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_ps(sum, x[i]);
  return _mm512_cvtss_f32(sum);
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) float dot_bf16(int64_t rounds) {
  __m512 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm512_set1_ps(float(i));
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.25f));
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm512_dpbf16_ps(x[i], a, a);
  __m512 sum = x[0];
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_ps(sum, x[i]);
  return _mm512_cvtss_f32(sum);
}

// Tiles of 16 × 32 by 32 × 16: as many independent sums as a kernel has room for.
__attribute__((target("amx-tile,amx-bf16"))) float multiply_tiles(int64_t rounds) {
  alignas(64) unsigned char config[64] = {1};
  for (int i = 0; i < 8; ++i) config[16 + 2 * i] = 64, config[48 + i] = 16;
  asm volatile("" ::"r"(config) : "memory");
  _tile_loadconfig(config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  for (int64_t r = 0; r < rounds * kChains / kTileShare / 4; ++r) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_release();
  return 0;
}

__attribute__((target("avx2,fma"))) float multiply_add_avx2(int64_t rounds) {
  __m256 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm256_set1_ps(float(i));
  const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm256_fmadd_ps(x[i], a, b);
  __m256 sum = x[0];
  for (int i = 1; i < kChains; ++i) sum = _mm256_add_ps(sum, x[i]);
  return _mm256_cvtss_f32(sum);
}

float multiply_add_sse(int64_t rounds) {
  __m128 x[kChains];
  for (int i = 0; i < kChains; ++i) x[i] = _mm_set1_ps(float(i));
  const __m128 a = _mm_set1_ps(0.999f), b = _mm_set1_ps(0.001f);
  for (int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) x[i] = _mm_add_ps(_mm_mul_ps(x[i], a), b);
  __m128 sum = x[0];
  for (int i = 1; i < kChains; ++i) sum = _mm_add_ps(sum, x[i]);
  return _mm_cvtss_f32(sum);
}

// A loop, and the FLOPs of one of its instructions.
struct Peak {
  Loop loop;
  double flops;
};
Peak peak_of(DType type) {
  const Isa isa = active_isa();
  if (type == DType::bf16 && isa >= Isa::amx) return {multiply_tiles, 16.0 * 16 * 32 * 2 / kTileShare};
  if (type == DType::bf16 && isa >= Isa::avx512_bf16) return {dot_bf16, 64};
  if (isa >= Isa::avx512) return {multiply_add_avx512, 32};
  if (isa >= Isa::avx2) return {multiply_add_avx2, 16};
  return {multiply_add_sse, 8};
}

// FLOPs a second of the whole team.
double rate(ThreadPool& pool, const Peak& peak, int64_t rounds) {
  std::vector<float> sink(static_cast<size_t>(pool.size()));
  const auto begin = Clock::now();
  pool.run([&](const Team& t) { sink[size_t(t.index)] = peak.loop(rounds); });
  return double(rounds) * kChains * peak.flops * pool.size() / seconds_since(begin);
}

}  // namespace

double peak_now(ThreadPool& pool, DType type) {
  rate(pool, peak_of(type), kRoundsNow / 10);  // wakes the threads
  return rate(pool, peak_of(type), kRoundsNow);
}

Machine measure_machine(ThreadPool& pool) {
  Machine m;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    m.flops = std::max(m.flops, rate(pool, peak_of(DType::f32), kRounds));
    m.flops_bf16 = std::max(m.flops_bf16, rate(pool, peak_of(DType::bf16), kRounds));
  }
  constexpr size_t kFloats = size_t(32) << 20;  // far more than any cache
  std::vector<float> from(kFloats, 1.0f), to(kFloats, 0.0f);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
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

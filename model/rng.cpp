#include "model/rng.h"

#include <cmath>

#include "kernels/core/error.h"
#include "kernels/loop/philox.h"

namespace darkroom {

RngKind parse_rng(std::string_view name) {
  if (name == "cpu") return RngKind::cpu;
  if (name == "cuda") return RngKind::cuda;
  throw usage_error("--rng {}: there are cpu and cuda", name);
}

const char* rng_name(RngKind kind) { return kind == RngKind::cpu ? "cpu" : "cuda"; }

void NoiseSource::normal(float* out, size_t n) {
  if (kind_ == RngKind::cuda) return philox(out, n);
  n < 16 ? few(out, n) : many(out, n);
}

// Fewer than 16: Box–Muller in double, one pair for two numbers.
void NoiseSource::few(float* out, size_t n) {
  const auto uniform = [&] {
    const uint64_t high = twister_(), low = twister_();
    return double(((high << 32) | low) & ((uint64_t(1) << 53) - 1)) * 0x1p-53;
  };
  for (size_t i = 0; i < n; ++i) {
    if (cached_) {
      out[i] = float(cache_);
      cached_ = false;
      continue;
    }
    const double u1 = uniform(), u2 = uniform();
    const double radius = std::sqrt(-2.0 * std::log1p(-u2)), angle = 2.0 * M_PI * u1;
    cache_ = radius * std::sin(angle);
    cached_ = true;
    out[i] = float(radius * std::cos(angle));
  }
}

// 16 and more: uniform numbers first, then each 16 of them become normal, 8 with the cosine and 8 with the sine. Where n is
// no multiple of 16, the last 16 are drawn anew.
void NoiseSource::many(float* out, size_t n) {
  const auto uniform = [&] { return float(twister_() & ((1u << 24) - 1)) * 0x1p-24f; };
  const auto transform = [](float* x) {
    for (int j = 0; j < 8; ++j) {
      const float u1 = 1.0f - x[j], u2 = x[j + 8];
      // Rounded to f32 where torch's vectors are; what is left of the difference is below 1e-6.
      const float radius = std::sqrt(-2.0f * float(std::log(double(u1)))), angle = float(2 * M_PI) * u2;
      x[j] = radius * float(std::cos(double(angle)));
      x[j + 8] = radius * float(std::sin(double(angle)));
    }
  };
  for (size_t i = 0; i < n; ++i) out[i] = uniform();
  for (size_t i = 0; i + 16 <= n; i += 16) transform(out + i);
  if (n % 16 == 0) return;
  for (size_t i = n - 16; i < n; ++i) out[i] = uniform();
  transform(out + n - 16);
}

void NoiseSource::philox(float* out, size_t n) {
  for (size_t i = 0; i < n; ++i) out[i] = philox_normal(uint32_t(seed_), uint32_t(seed_ >> 32), draws_, uint32_t(i));
  ++draws_;
}

}  // namespace darkroom

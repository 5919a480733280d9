// Noise that other programs' seeds mean: torch's CPU generator, and its CUDA one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>

namespace darkroom {

enum class RngKind : uint8_t {
  cpu,   // torch.manual_seed(seed); torch.randn(n): Mersenne Twister 19937
  cuda,  // the same on a CUDA device: Philox 4×32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011)
};

// "cpu" or "cuda". Throws usage_error on anything else.
RngKind parse_rng(std::string_view name);
const char* rng_name(RngKind kind);

// Standard normal numbers. Two draws one after the other differ, as they do there.
class NoiseSource {
 public:
  NoiseSource(RngKind kind, uint64_t seed) : kind_(kind), seed_(seed), twister_(uint32_t(seed)) {}

  // As one call of randn with n elements.
  void normal(float* out, size_t n);
  // Calls so far, of the CUDA generator's kind: the number of the next one.
  uint32_t draws() const { return draws_; }

 private:
  void few(float* out, size_t n);
  void many(float* out, size_t n);
  void philox(float* out, size_t n);

  RngKind kind_;
  uint64_t seed_;
  std::mt19937 twister_;
  bool cached_ = false;  // the CPU generator makes two doubles at a time and keeps the second
  double cache_ = 0;
  uint32_t draws_ = 0;
};

}  // namespace darkroom

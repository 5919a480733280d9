// The vocabulary of kernels/core/cuda/ptx_nvcc.h in the emulator: functional models. See there for what each does.
#pragma once

#include <simt/device.h>

namespace darkroom::simt {

// A row-major 16 × 16 (or 16 × 8 deep) times 16 × 8 product over the registers of a warp; `f16`: else bf16.
struct MmaArgument {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
  bool f16;
  int depth;
};
void mma(const MmaArgument& argument, Site site);

struct LdmatrixArgument {
  uint32_t* registers;
  const void* row;
  int matrices;
  bool transpose;
};
void ldmatrix(const LdmatrixArgument& argument, Site site);

}  // namespace darkroom::simt

namespace darkroom::cuda {

template <typename T>
void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Site site = Site::current()) {
  simt::mma({d, a, b, std::is_same_v<T, f16_t>, 16}, site);
}
template <typename T>
void mma_1688(float (&d)[4], const uint32_t (&a)[2], uint32_t b, Site site = Site::current()) {
  simt::mma({d, a, &b, std::is_same_v<T, f16_t>, 8}, site);
}

template <int N, bool kTranspose = false, typename T>
void ldmatrix(uint32_t (&r)[N], Shared<T> row, Site site = Site::current()) {
  static_assert(N == 2 || N == 4);
  simt::ldmatrix({r, row.p, N, kTranspose}, site);
}

template <int kBytes, typename T, typename U>
void cp_async(Shared<T> to, Global<U> from, bool valid, Site site = Site::current()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  static_assert(std::is_same_v<T, std::remove_const_t<U>>);
  if (valid) simt::global_check(from.view, from.p, kBytes, false, site);
  simt::async_begin(to.p, valid ? from.p : nullptr, kBytes, site);
}
inline void cp_async_commit() { simt::async_commit(); }
template <int N>
void cp_async_wait() {
  simt::async_wait(N);
}

inline float exp2_approx(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }
inline float reciprocal_approx(float x) { return 1.0f / x; }

}  // namespace darkroom::cuda

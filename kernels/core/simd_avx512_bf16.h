// Products of bf16 pairs (AVX512-BF16), beside the f32 lanes of simd_avx512.h.
//
// vdpbf16ps adds two products to each f32 lane. Products of bf16 are exact in f32; the two sums are rounded to nearest even,
// one after the other. Denormals count as zero, in and out.
#pragma once

#include "kernels/core/simd_avx512.h"

namespace darkroom::simd512 {

// Lane i: sums[i] + a[2i+1] · b[2i+1] + a[2i] · b[2i]; a and b are 32 bf16.
static inline __m512 dot_bf16(__m512 sums, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sums, (__m512bh)a, (__m512bh)b);
}

// 32 bits at p, two bf16, in all lanes.
static inline __m512i broadcast_pair(const bf16_t* p) {
  int bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return _mm512_set1_epi32(bits);
}

}  // namespace darkroom::simd512

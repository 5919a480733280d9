// 2^t in f32 on any instruction set's lanes (Lanes of simd_avx2.h, simd_avx512.h), cheaper than the exact exp of those headers.
#pragma once

namespace darkroom {

// 2^t = mantissa · power, mantissa about 0.7 to 1.4: a caller may fuse the product with a sum.
template <typename Simd>
struct Exp2 {
  typename Simd::Vector mantissa, power;
};

// For -127 <= t <= 127; at -127 the power is zero. NaN stays NaN. Relative error below 1.7e-7.
template <typename Simd>
static inline Exp2<Simd> exp2(typename Simd::Vector t) {
  using Vector = typename Simd::Vector;
  // The integer part appears in the low bits of t + magic, already biased as an exponent is.
  const Vector magic = Simd::set(0x1.8p23f + 127.0f);
  const Vector shifted = t + magic;
  const Vector f = t - (shifted - magic);  // in [-1/2, 1/2]
  // Minimax polynomial of (2^f - 1) / f, relative to 2^f: 9.2e-8, and a rounding.
  Vector p = Simd::set(1.3264727e-3f);
  p = Simd::fmadd(p, f, Simd::set(9.671513e-3f));
  p = Simd::fmadd(p, f, Simd::set(5.5507336e-2f));
  p = Simd::fmadd(p, f, Simd::set(0.24022242f));
  p = Simd::fmadd(p, f, Simd::set(0.693147f));
  p = Simd::fmadd(p, f, Simd::set(1.0f));
  return {p, Simd::low_bits_as_exponent(shifted)};
}

}  // namespace darkroom

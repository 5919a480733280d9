// The moments of what a convolution stores (KernelCall::moments), gathered while it is at hand: of a few pixels, a piece, the mean and
// the sum of square deviations from it; the pieces of a slab meet by Chan's combination.
//
// Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Sample Variances (1979).
//
// Simd is an instruction set's vectors, as in winograd4_on_simd.h. Static for the reason that simd_avx2.h gives.
#pragma once

#include "kernels/core/tensor_view.h"

namespace darkroom::slab_moments {

template <typename Simd>
struct Piece {
  typename Simd::Vector mean, squares;
};

// Gathers a piece, a pixel at a time. Squares are summed around its first pixel: no further from the mean than √n deviations, so that
// what cancels in the end is n times the result at most, however large the mean.
template <typename Simd>
struct PieceSums {
  using Vector = typename Simd::Vector;
  Vector origin, sum[2], squares[2];

  explicit PieceSums(Vector first)
      : origin(first), sum{Simd::set(0.0f), Simd::set(0.0f)}, squares{Simd::set(0.0f), Simd::set(0.0f)} {}
  // Chain 0 or 1: two of them hide each other's latency.
  void add(int chain, Vector x) {
    const Vector d = x - origin;
    sum[chain] = sum[chain] + d;
    squares[chain] = Simd::fmadd(d, d, squares[chain]);
  }
  Piece<Simd> of(int64_t pixels) const {
    const Vector all = sum[0] + sum[1], mean = all * Simd::set(1.0f / float(pixels));
    return {origin + mean, Simd::fnmadd(all, mean, squares[0] + squares[1])};
  }
};

// One slab, kChannels channels of it.
template <typename Simd, int64_t kChannels>
class Slab {
  using Vector = typename Simd::Vector;

 public:
  void begin() {
    count_ = 0;
    for (int64_t c = 0; c < kChannels; c += Simd::kLanes) {
      Simd::store(mean_ + c, Simd::set(0.0f));
      Simd::store(squares_ + c, Simd::set(0.0f));
    }
  }
  // A piece of so many pixels follows, add() of each vector of channels once.
  void begin_piece(int64_t pixels) {
    const float count = count_ + float(pixels);
    share_ = float(pixels) / count;
    between_ = count_ * share_;
    count_ = count;
  }
  void add(int64_t channel, const Piece<Simd>& piece) {
    const Vector mean = Simd::load(mean_ + channel), difference = piece.mean - mean;
    Simd::store(mean_ + channel, Simd::fmadd(difference, Simd::set(share_), mean));
    const Vector squares = Simd::load(squares_ + channel) + piece.squares;
    Simd::store(squares_ + channel, Simd::fmadd(difference * difference, Simd::set(between_), squares));
  }
  // Its channels are those from `first` on; beyond the last of the output there are none.
  void write(const TensorView& moments, int64_t sample, int64_t slab, int64_t first) const {
    float* to = moments.as<float>() + sample * moments.stride[0] + slab * moments.stride[1] + first;
    for (int64_t c = 0; c < kChannels && first + c < moments.channels(); c += Simd::kLanes) {
      const int64_t part = moments.channels() - first - c;
      Simd::store(to + c, Simd::set(count_), part);
      Simd::store(to + c + moments.stride[2], Simd::load(mean_ + c), part);
      Simd::store(to + c + 2 * moments.stride[2], Simd::load(squares_ + c), part);
    }
  }

 private:
  float count_, share_, between_;  // between: what the distance of two means adds to the squares
  float mean_[kChannels], squares_[kChannels];
};

// The next piece: so many pixels, `channels` of each, at most kChannels; pixel(i) is where the i-th lies, read while it is in L1.
template <typename Simd, int64_t kChannels, typename Pixel>
static void add_pixels(Slab<Simd, kChannels>& slab, int64_t pixels, int64_t channels, const Pixel& pixel) {
  slab.begin_piece(pixels);
  for (int64_t c = 0; c < kChannels && c < channels; c += Simd::kLanes) {
    const int64_t lanes = channels - c;
    PieceSums<Simd> sums(Simd::load(pixel(0) + c, lanes));
    int64_t i = 0;
    for (; i + 2 <= pixels; i += 2) {
      sums.add(0, Simd::load(pixel(i) + c, lanes));
      sums.add(1, Simd::load(pixel(i + 1) + c, lanes));
    }
    if (i < pixels) sums.add(0, Simd::load(pixel(i) + c, lanes));
    slab.add(c, sums.of(pixels));
  }
}

}  // namespace darkroom::slab_moments

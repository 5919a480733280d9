// Shapes: up to four dimensions, the innermost last. Letters used all over the project:
//   B batch · C channels · H W height and width · G groups · N queries · M keys · D head dim · NH heads
// Feature maps are B H W C, sequences B N C, matrices rows cols, conv weights O I KH KW (as checkpoints have them).
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace darkroom {

inline constexpr int kMaxRank = 4;

class Shape {
 public:
  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> dims) {
    for (int64_t d : dims) push_back(d);
  }

  constexpr int rank() const { return rank_; }
  constexpr int64_t operator[](int i) const { return dims_[size_t(i < 0 ? i + rank_ : i)]; }
  constexpr int64_t& operator[](int i) { return dims_[size_t(i < 0 ? i + rank_ : i)]; }
  // The caller keeps the rank at or below kMaxRank; what comes from a file is checked before it gets here.
  constexpr void push_back(int64_t d) { dims_[size_t(rank_++)] = d; }

  // Number of elements; 1 for rank 0.
  constexpr int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[size_t(i)];
    return n;
  }
  // All dimensions but the last, multiplied: how many rows of channels there are.
  constexpr int64_t rows() const {
    return rank_ == 0 ? 1 : elements() / (dims_[size_t(rank_ - 1)] ? dims_[size_t(rank_ - 1)] : 1);
  }
  constexpr int64_t channels() const { return rank_ == 0 ? 1 : dims_[size_t(rank_ - 1)]; }

  constexpr bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (dims_[size_t(i)] != o.dims_[size_t(i)]) return false;
    return true;
  }

  // "2x64x64x320"; "scalar" for rank 0.
  std::string to_string() const {
    if (rank_ == 0) return "scalar";
    std::string s;
    for (int i = 0; i < rank_; ++i) s += (i ? "x" : "") + std::to_string(dims_[size_t(i)]);
    return s;
  }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace darkroom

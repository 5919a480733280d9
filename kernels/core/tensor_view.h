// A tensor as a kernel sees it: memory, type, shape and strides. Owns nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"

namespace darkroom {

// Strides count elements. The innermost stride is always 1: channels are contiguous. Everything outside of them may be
// strided, so that a column slice of a packed QKV or one half of a concat is a view and no copy; a batch stride of 0
// broadcasts one sample. While a plan is made there is no memory yet and `data` is null: presence is told by the dtype.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::none;
  Shape shape;
  std::array<int64_t, kMaxRank> stride{};

  static TensorView dense(void* data, DType dtype, const Shape& shape) {
    TensorView v{data, dtype, shape, {}};
    int64_t step = 1;
    for (int i = shape.rank() - 1; i >= 0; --i) {
      v.stride[size_t(i)] = step;
      step *= shape[i];
    }
    return v;
  }

  bool present() const { return dtype != DType::none; }
  int rank() const { return shape.rank(); }
  int64_t channels() const { return shape.channels(); }
  int64_t rows() const { return shape.rows(); }
  // Elements between one row of channels and the next (pixels of a line, tokens of a sequence).
  int64_t row_stride() const { return rank() >= 2 ? stride[size_t(rank() - 2)] : shape.elements(); }

  // Row r of all rows() lies at data + r * row_stride(): what a kernel that walks plain rows needs.
  bool rows_uniform() const {
    if (rank() < 2) return true;
    int64_t step = row_stride() * shape[rank() - 2];
    for (int i = rank() - 3; i >= 0; --i) {
      if (shape[i] == 1) continue;
      if (stride[size_t(i)] != step) return false;
      step *= shape[i];
    }
    return true;
  }
  bool is_dense() const { return rows_uniform() && (rank() < 2 || rows() == 1 || row_stride() == channels()); }

  // Elements from the first to one past the last: what the view needs of memory.
  int64_t extent() const {
    if (shape.elements() == 0) return 0;
    int64_t last = 0;
    for (int i = 0; i < rank(); ++i) last += (shape[i] - 1) * stride[size_t(i)];
    return last + 1;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  // Row r, for a view whose rows are uniform.
  template <typename T>
  T* row(int64_t r) const {
    return static_cast<T*>(data) + r * row_stride();
  }
};

}  // namespace darkroom

#include "model/tiles.h"

#include <algorithm>
#include <cmath>

namespace darkroom {

namespace {

TileAxis in_pixels(TileAxis axis, int64_t scale) {
  axis.length *= scale;
  for (int64_t& b : axis.begin) b *= scale;
  return axis;
}

std::vector<float> weight_sums(const TileAxis& axis) {
  std::vector<float> sums(size_t(axis.begin.back() + axis.length), 0.0f);
  for (size_t i = 0; i < axis.begin.size(); ++i)
    for (int64_t at = 0; at < axis.length; ++at) sums[size_t(axis.begin[i] + at)] += tile_weight(axis, i, at);
  return sums;
}

}  // namespace

TileAxis tile_axis(int64_t size, int64_t tile) {
  if (size <= tile) return {size, {0}};
  const int64_t step = std::max<int64_t>(tile - tile / 4, 1), count = 1 + (size - tile + step - 1) / step;
  TileAxis axis{tile, {}};
  for (int64_t i = 0; i < count; ++i) axis.begin.push_back(i * (size - tile) / (count - 1));
  return axis;
}

float tile_weight(const TileAxis& axis, size_t i, int64_t at) {
  float weight = 1;
  if (i > 0) {
    const int64_t overlap = axis.begin[i - 1] + axis.length - axis.begin[i];
    weight = std::min(weight, (float(at) + 0.5f) / float(overlap));
  }
  if (i + 1 < axis.begin.size()) {
    const int64_t overlap = axis.begin[i] + axis.length - axis.begin[i + 1];
    weight = std::min(weight, (float(axis.length - at) - 0.5f) / float(overlap));
  }
  return weight;
}

TileBlender::TileBlender(TileAxis rows, TileAxis columns, int64_t scale)
    : rows_(in_pixels(std::move(rows), scale)),
      columns_(in_pixels(std::move(columns), scale)),
      height_(rows_.begin.back() + rows_.length),
      width_(columns_.begin.back() + columns_.length),
      row_sum_(weight_sums(rows_)),
      column_sum_(weight_sums(columns_)),
      sum_(size_t(height_ * width_ * 3), 0.0f) {}

void TileBlender::add(size_t row, size_t column, const std::vector<uint8_t>& rgb) {
  for (int64_t y = 0; y < rows_.length; ++y) {
    const float wy = tile_weight(rows_, row, y);
    float* to = sum_.data() + ((rows_.begin[row] + y) * width_ + columns_.begin[column]) * 3;
    const uint8_t* from = rgb.data() + y * columns_.length * 3;
    for (int64_t x = 0; x < columns_.length; ++x) {
      const float w = wy * tile_weight(columns_, column, x);
      for (int c = 0; c < 3; ++c) to[x * 3 + c] += w * float(from[x * 3 + c]);
    }
  }
}

std::vector<uint8_t> TileBlender::finish() const {
  std::vector<uint8_t> rgb(sum_.size());
  for (int64_t y = 0; y < height_; ++y)
    for (int64_t x = 0; x < width_; ++x)
      for (int64_t c = 0; c < 3; ++c) {
        const size_t i = size_t((y * width_ + x) * 3 + c);
        rgb[i] =
            uint8_t(std::clamp(std::nearbyint(sum_[i] / (row_sum_[size_t(y)] * column_sum_[size_t(x)])), 0.0f, 255.0f));
      }
  return rgb;
}

}  // namespace darkroom

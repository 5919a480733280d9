// A large picture from overlapping tiles of one size, so that decoding needs the memory of a tile.
//
// Along each axis the tiles are spread evenly and overlap by a quarter or more. Where tiles overlap each fades out linearly towards its
// own edge, where its network saw padding in place of a neighbour. What a tile cannot know is the whole picture's statistics
// (group norm, the attention in the middle): tiles are near to the whole, not equal to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace darkroom {

// `size` cells by tiles of `length`: where each begins. One tile of length `size` where that is enough.
struct TileAxis {
  int64_t length = 0;
  std::vector<int64_t> begin;
};
TileAxis tile_axis(int64_t size, int64_t tile);

// How much the cell `at` of tile i counts, before the sum over all tiles is brought to 1: it falls towards edges that have a
// neighbour.
float tile_weight(const TileAxis& axis, size_t i, int64_t at);

// Adds tiles of 8-bit RGB up, a pixel being 1/`scale` of a cell.
class TileBlender {
 public:
  TileBlender(TileAxis rows, TileAxis columns, int64_t scale);

  // Tile (row, column), rows.length·scale × columns.length·scale pixels.
  void add(size_t row, size_t column, const std::vector<uint8_t>& rgb);
  // The whole picture, when every tile is there.
  std::vector<uint8_t> finish() const;

  int64_t height() const { return height_; }
  int64_t width() const { return width_; }

 private:
  TileAxis rows_, columns_;  // in pixels
  int64_t height_, width_;
  std::vector<float> row_sum_, column_sum_, sum_;
};

}  // namespace darkroom

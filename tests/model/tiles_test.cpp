// Tiles: they cover the whole, they overlap, and what they agree on comes out as it went in.
#include "model/tiles.h"

#include <gtest/gtest.h>

#include <array>

namespace darkroom {
namespace {

TEST(Tiles, CoverTheAxisAndOverlap) {
  for (int64_t tile : {8, 16, 64})
    for (int64_t size = 1; size < 300; ++size) {
      const TileAxis axis = tile_axis(size, tile);
      ASSERT_EQ(axis.begin.front(), 0);
      ASSERT_EQ(axis.begin.back() + axis.length, size);
      ASSERT_EQ(axis.length, std::min(size, tile));
      for (size_t i = 1; i < axis.begin.size(); ++i) {
        ASSERT_GT(axis.begin[i], axis.begin[i - 1]);
        ASSERT_GE(axis.begin[i - 1] + axis.length - axis.begin[i], tile / 4) << size << " by " << tile;
      }
    }
}

TEST(Tiles, APictureCutIntoTilesComesTogetherAgain) {
  for (const auto& [height, width, tile] : {std::array<int64_t, 3>{20, 33, 8}, {8, 8, 8}, {9, 40, 16}, {128, 96, 64}}) {
    const int64_t scale = 2;
    std::vector<uint8_t> picture(size_t(height * width * scale * scale * 3));
    for (size_t i = 0; i < picture.size(); ++i) picture[i] = uint8_t(i * 7919 >> 3);
    const TileAxis rows = tile_axis(height, tile), columns = tile_axis(width, tile);
    TileBlender blender(rows, columns, scale);
    for (size_t r = 0; r < rows.begin.size(); ++r)
      for (size_t c = 0; c < columns.begin.size(); ++c) {
        std::vector<uint8_t> rgb;
        for (int64_t y = 0; y < rows.length * scale; ++y) {
          const auto from =
              picture.begin() + ((rows.begin[r] * scale + y) * width * scale + columns.begin[c] * scale) * 3;
          rgb.insert(rgb.end(), from, from + columns.length * scale * 3);
        }
        blender.add(r, c, rgb);
      }
    EXPECT_EQ(blender.finish(), picture) << height << "x" << width;
  }
}

// Two tiles that differ meet in a ramp, without a step larger than the difference over the overlap.
TEST(Tiles, FadeIntoEachOther) {
  const TileAxis rows = tile_axis(8, 8), columns = tile_axis(28, 16);
  ASSERT_EQ(columns.begin.size(), 2u);
  TileBlender blender(rows, columns, 8);
  blender.add(0, 0, std::vector<uint8_t>(size_t(64 * 128 * 3), 100));
  blender.add(0, 1, std::vector<uint8_t>(size_t(64 * 128 * 3), 132));
  const std::vector<uint8_t> rgb = blender.finish();
  const int overlap = int(columns.begin[0] + columns.length - columns.begin[1]) * 8;
  EXPECT_EQ(rgb.front(), 100);
  EXPECT_EQ(rgb.back(), 132);
  for (int64_t x = 1; x < blender.width(); ++x) {
    const int step = int(rgb[size_t(x * 3)]) - int(rgb[size_t((x - 1) * 3)]);
    ASSERT_GE(step, 0);
    ASSERT_LE(step, 32 / overlap + 1);
  }
}

}  // namespace
}  // namespace darkroom

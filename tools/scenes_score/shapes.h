// Shapes as the scorer knows them: fourteen outlines, and how well a mask covers each.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace darkroom::scenes {

struct ShapeMatch {
  std::string name;
  double overlap = 0;  // intersection over union with the best outline, both stretched to one box
};

// The mask's pixels within the box x0..x1, y0..y1 (both included).
ShapeMatch match_shape(const std::vector<uint8_t>& mask, int width, int x0, int y0, int x1, int y1);

}  // namespace darkroom::scenes

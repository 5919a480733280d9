#include "tools/scenes_score/shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

namespace darkroom::scenes {

namespace {

constexpr int kGrid = 48;  // outlines and masks are compared on a grid of this side
constexpr double kPi = 3.14159265358979;

// Outlines as questions: is the point in it? Coordinates about -1 to 1, y downwards; boxes are fitted afterwards.
using Inside = std::function<bool(double, double)>;

bool in_circle(double x, double y, double cx, double cy, double r) {
  return (x - cx) * (x - cx) + (y - cy) * (y - cy) <= r * r;
}
bool in_box(double x, double y, double x0, double y0, double x1, double y1) {
  return x >= x0 && x <= x1 && y >= y0 && y <= y1;
}
// A triangle with a vertical axis: from its tip down to its base.
bool in_gable(double x, double y, double tip, double base, double half) {
  return y >= tip && y <= base && std::abs(x) <= half * (y - tip) / (base - tip);
}
// A star with straight edges between outer radius 1 and `inner`.
bool in_star(double x, double y, int tips, double inner) {
  const double radius = std::hypot(x, y), step = kPi / tips;
  double angle = std::fmod(std::atan2(x, -y) + 4 * kPi, 2 * step);
  if (angle > step) angle = 2 * step - angle;
  // The edge from the tip (angle 0, radius 1) to the notch (angle `step`, radius `inner`).
  const double nx = std::sin(step) * inner, ny = std::cos(step) * inner;
  const double px = std::sin(angle) * radius, py = std::cos(angle) * radius;
  return (nx - 0) * (py - 1) - (ny - 1) * (px - 0) <= 0;
}

struct Outline {
  const char* name;
  Inside inside;
};

const std::vector<Outline>& outlines() {
  static const std::vector<Outline> all = {
      {"circle", [](double x, double y) { return in_circle(x, y, 0, 0, 1); }},
      {"square", [](double x, double y) { return in_box(x, y, -1, -1, 1, 1); }},
      {"triangle", [](double x, double y) { return in_gable(x, y, -1, 0.8, 1); }},
      {"star", [](double x, double y) { return in_star(x, y, 5, 0.45); }},
      {"ring", [](double x, double y) { return in_circle(x, y, 0, 0, 1) && !in_circle(x, y, 0, 0, 0.55); }},
      {"heart",
       [](double x, double y) {
         const double u = x * 1.15, v = -y * 1.15 + 0.1, k = u * u + v * v - 1;
         return k * k * k - u * u * v * v * v <= 0;
       }},
      {"cross",
       [](double x, double y) { return in_box(x, y, -0.35, -1, 0.35, 1) || in_box(x, y, -1, -0.35, 1, 0.35); }},
      {"moon", [](double x, double y) { return in_circle(x, y, 0.1, 0, 0.98) && !in_circle(x, y, 0.58, 0, 0.78); }},
      {"sun", [](double x, double y) { return in_star(x, y, 12, 0.7); }},
      {"house",
       [](double x, double y) { return in_box(x, y, -0.72, -0.13, 0.72, 0.9) || in_gable(x, y, -0.98, -0.12, 0.98); }},
      {"tree",
       [](double x, double y) {
         return in_circle(x, y, -0.36, 0.05, 0.42) || in_circle(x, y, 0.36, 0.05, 0.42) ||
                in_circle(x, y, 0, -0.42, 0.54) || in_box(x, y, -0.16, 0, 0.16, 0.98);
       }},
      {"fish",
       [](double x, double y) {
         const double u = (x + 0.2) / 0.78, v = y / 0.484;
         return u * u + v * v <= 1 || (x >= 0.4 && x <= 1 && std::abs(y) <= 0.52 * (x - 0.4) / 0.6);
       }},
      {"boat",
       [](double x, double y) {
         const bool hull = y >= 0.35 && y <= 0.85 && std::abs(x) <= 0.95 - 0.7 * (y - 0.35);
         const bool right = x >= 0.1 && y <= 0.2 && y >= -0.92 && x - 0.1 <= 0.75 * (y + 0.92) / 1.12;
         const bool left = x <= -0.1 && y <= 0.2 && y >= -0.7 && -0.1 - x <= 0.6 * (y + 0.7) / 0.9;
         return hull || right || left || in_box(x, y, -0.06, -0.95, 0.06, 0.35);
       }},
      {"flower",
       [](double x, double y) {
         bool petal = in_circle(x, y, 0, 0, 0.4);
         for (int i = 0; i < 6; ++i)
           petal |= in_circle(x, y, 0.56 * std::cos(i * kPi / 3), 0.56 * std::sin(i * kPi / 3), 0.4);
         return petal;
       }},
  };
  return all;
}

using Grid = std::array<uint8_t, size_t(kGrid) * kGrid>;
struct Template {
  const char* name;
  Grid grid;
  double aspect;  // width over height of its box
};

// Each outline, its own box stretched over the grid.
std::vector<Template> make_templates() {
  std::vector<Template> all;
  for (const Outline& o : outlines()) {
    constexpr int kFine = 400;
    double x0 = 2, y0 = 2, x1 = -2, y1 = -2;
    for (int i = 0; i < kFine; ++i)
      for (int j = 0; j < kFine; ++j) {
        const double x = 2.6 * (j + 0.5) / kFine - 1.3, y = 2.6 * (i + 0.5) / kFine - 1.3;
        if (!o.inside(x, y)) continue;
        x0 = std::min(x0, x);
        x1 = std::max(x1, x);
        y0 = std::min(y0, y);
        y1 = std::max(y1, y);
      }
    Template t{o.name, {}, (x1 - x0) / (y1 - y0)};
    for (int i = 0; i < kGrid; ++i)
      for (int j = 0; j < kGrid; ++j)
        t.grid[size_t(i * kGrid + j)] =
            o.inside(x0 + (x1 - x0) * (j + 0.5) / kGrid, y0 + (y1 - y0) * (i + 0.5) / kGrid);
    all.push_back(t);
  }
  return all;
}

}  // namespace

ShapeMatch match_shape(const std::vector<uint8_t>& mask, int width, int x0, int y0, int x1, int y1) {
  static const std::vector<Template> templates = make_templates();
  const double w = x1 - x0 + 1, h = y1 - y0 + 1;
  Grid grid{};
  for (int i = 0; i < kGrid; ++i)
    for (int j = 0; j < kGrid; ++j) {
      const int x = x0 + int(w * (j + 0.5) / kGrid), y = y0 + int(h * (i + 0.5) / kGrid);
      grid[size_t(i * kGrid + j)] = mask[size_t(y) * size_t(width) + size_t(x)];
    }
  ShapeMatch best;
  double best_score = -1;
  for (const Template& t : templates) {
    int both = 0, either = 0;
    for (size_t k = 0; k < grid.size(); ++k) {
      both += grid[k] && t.grid[k];
      either += grid[k] || t.grid[k];
    }
    const double overlap = double(both) / std::max(either, 1);
    // A box of the wrong proportions counts against it.
    const double score = overlap - 0.35 * std::abs(std::log(w / h / t.aspect));
    if (score <= best_score) continue;
    best_score = score;
    best = {t.name, overlap};
  }
  return best;
}

}  // namespace darkroom::scenes

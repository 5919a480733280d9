#include "tools/scenes_score/scorer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <queue>

#include "tools/scenes_score/shapes.h"

namespace darkroom::scenes {

namespace {

struct Colour {
  double r = 0, g = 0, b = 0;
};

double distance(const Colour& a, const Colour& b) {
  // Weighted as eyes do, roughly.   Source: the "redmean" approximation.
  const double mean = (a.r + b.r) / 2, dr = a.r - b.r, dg = a.g - b.g, db = a.b - b.b;
  return std::sqrt((2 + mean / 256) * dr * dr + 4 * dg * dg + (2 + (255 - mean) / 256) * db * db);
}

struct Named {
  const char* name;
  Colour colour;
};
// Typical tones of the ten colour words.
constexpr Named kColours[] = {{"red", {219, 33, 38}},    {"orange", {247, 133, 18}}, {"yellow", {250, 214, 31}},
                              {"green", {38, 148, 61}},  {"blue", {36, 89, 212}},    {"purple", {133, 51, 171}},
                              {"pink", {250, 140, 186}}, {"brown", {128, 77, 38}},   {"black", {26, 26, 31}},
                              {"white", {247, 247, 242}}};
// The tones at the top and the bottom of each background.
struct Backdrop {
  const char* name;
  Colour top, bottom;
};
constexpr Backdrop kBackdrops[] = {
    {"white", {255, 255, 255}, {255, 255, 255}}, {"cream", {250, 237, 204}, {250, 237, 204}},
    {"grey", {173, 176, 181}, {173, 176, 181}},  {"sky", {128, 194, 242}, {199, 230, 250}},
    {"night", {10, 13, 43}, {28, 33, 84}},       {"meadow", {158, 212, 247}, {117, 184, 77}},
    {"sea", {184, 224, 247}, {41, 122, 173}},    {"sunset", {107, 77, 148}, {252, 191, 107}}};

class Canvas {
 public:
  explicit Canvas(const Image& image) : width(image.width), height(image.height), image_(image) {}
  const int width, height;
  Colour at(int x, int y) const {
    const uint8_t* p = image_.pixels.data() + (size_t(y) * size_t(width) + size_t(x)) * 3;
    return {double(p[0]), double(p[1]), double(p[2])};
  }
  // The middle one of some pixels, channel by channel.
  static Colour median(std::vector<Colour> c) {
    Colour m;
    for (double Colour::*channel : {&Colour::r, &Colour::g, &Colour::b}) {
      std::nth_element(c.begin(), c.begin() + std::ptrdiff_t(c.size() / 2), c.end(),
                       [&](const Colour& a, const Colour& b) { return a.*channel < b.*channel; });
      m.*channel = c[c.size() / 2].*channel;
    }
    return m;
  }

 private:
  const Image& image_;
};

std::string name_background(const Canvas& c) {
  const auto band = [&](int from, int to) {
    std::vector<Colour> pixels;
    for (int y = from; y < to; ++y)
      for (int x = 0; x < c.width; ++x) pixels.push_back(c.at(x, y));
    return Canvas::median(pixels);
  };
  const Colour top = band(0, std::max(1, c.height / 32)),
               bottom = band(c.height - std::max(1, c.height / 32), c.height);
  const Backdrop* best = nullptr;
  double least = 0;
  for (const Backdrop& b : kBackdrops)
    if (const double d = distance(top, b.top) + distance(bottom, b.bottom); !best || d < least) {
      best = &b;
      least = d;
    }
  return best->name;
}

// 1 where something stands before the background. What the left and right edges show a little above and below is background.
std::vector<uint8_t> find_foreground(const Canvas& c) {
  constexpr double kNear = 60;
  const int edge = std::max(2, c.width / 42), reach = std::max(2, c.height / 9);
  std::vector<Colour> left, right;
  for (int y = 0; y < c.height; ++y) {
    std::vector<Colour> l, r;
    for (int x = 0; x < edge; ++x) {
      l.push_back(c.at(x, y));
      r.push_back(c.at(c.width - 1 - x, y));
    }
    left.push_back(Canvas::median(l));
    right.push_back(Canvas::median(r));
  }
  std::vector<uint8_t> mask(size_t(c.width) * size_t(c.height), 0);
  for (int y = 0; y < c.height; ++y)
    for (int x = 0; x < c.width; ++x) {
      const Colour p = c.at(x, y);
      double nearest = 1e9;
      for (int k = std::max(0, y - reach); k <= std::min(c.height - 1, y + reach); ++k)
        nearest = std::min({nearest, distance(p, left[size_t(k)]), distance(p, right[size_t(k)])});
      mask[size_t(y) * size_t(c.width) + size_t(x)] = nearest > kNear;
    }
  return mask;
}

// Without what is thin and far from anything thick: the seam of hill and sky, stars. Tips and masts, which begin at
// something thick, stay.
std::vector<uint8_t> without_hairlines(const std::vector<uint8_t>& mask, int width, int height) {
  constexpr int kReach = 4;
  // How many of the pixels within `reach` are set.
  const auto count = [&](const std::vector<uint8_t>& from, int x, int y, int reach) {
    int set = 0;
    for (int v = std::max(0, y - reach); v <= std::min(height - 1, y + reach); ++v)
      for (int u = std::max(0, x - reach); u <= std::min(width - 1, x + reach); ++u) set += from[size_t(v * width + u)];
    return set;
  };
  std::vector<uint8_t> thick(mask.size(), 0), result(mask.size(), 0);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) thick[size_t(y * width + x)] = count(mask, x, y, 1) == 9;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const size_t p = size_t(y * width + x);
      result[p] = mask[p] && count(thick, x, y, kReach) > 0;
    }
  return result;
}

struct Blob {
  std::vector<int> pixels;
  int x0 = 1 << 30, y0 = 1 << 30, x1 = -1, y1 = -1;
  void add(int p, int width) {
    pixels.push_back(p);
    x0 = std::min(x0, p % width);
    x1 = std::max(x1, p % width);
    y0 = std::min(y0, p / width);
    y1 = std::max(y1, p / width);
  }
};

// Connected pixels. `gap`: so many pixels apart still counts as connected (a sail and its mast).
std::vector<Blob> blobs_of(const std::vector<uint8_t>& mask, int width, int height, size_t smallest, int gap) {
  std::vector<uint8_t> seen(mask.size(), 0);
  std::vector<Blob> blobs;
  for (size_t start = 0; start < mask.size(); ++start) {
    if (!mask[start] || seen[start]) continue;
    Blob blob;
    std::queue<int> open;
    open.push(int(start));
    seen[start] = 1;
    while (!open.empty()) {
      const int p = open.front();
      open.pop();
      blob.add(p, width);
      for (int dy = -1 - gap; dy <= 1 + gap; ++dy)
        for (int dx = -1 - gap; dx <= 1 + gap; ++dx) {
          const int x = p % width + dx, y = p / width + dy;
          if (x < 0 || y < 0 || x >= width || y >= height) continue;
          const size_t q = size_t(y * width + x);
          if (!mask[q] || seen[q]) continue;
          seen[q] = 1;
          open.push(int(q));
        }
    }
    if (blob.pixels.size() >= smallest) blobs.push_back(std::move(blob));
  }
  std::sort(blobs.begin(), blobs.end(), [](const Blob& a, const Blob& b) { return a.pixels.size() > b.pixels.size(); });
  return blobs;
}

size_t nearest_colour(const Colour& c) {
  size_t best = 0;
  for (size_t i = 1; i < std::size(kColours); ++i)
    if (distance(c, kColours[i].colour) < distance(c, kColours[best].colour)) best = i;
  return best;
}

// How many of a blob's pixels are of each colour; only those that are clearly of one count.
std::array<size_t, std::size(kColours)> colour_counts(const Canvas& c, const Blob& blob) {
  constexpr double kClear = 85;
  std::array<size_t, std::size(kColours)> counts{};
  for (int p : blob.pixels) {
    const Colour pixel = c.at(p % c.width, p / c.width);
    const size_t k = nearest_colour(pixel);
    if (distance(pixel, kColours[k].colour) < kClear) ++counts[k];
  }
  return counts;
}

SeenThing recognise(const Canvas& c, const Blob& blob, size_t colour) {
  SeenThing s;
  s.colour = kColours[colour].name;
  s.x = (blob.x0 + blob.x1 + 1) / 2.0 / c.width;
  s.y = (blob.y0 + blob.y1 + 1) / 2.0 / c.height;
  s.size = double(std::max(blob.x1 - blob.x0, blob.y1 - blob.y0) + 1) / c.width;
  std::vector<uint8_t> mask(size_t(c.width) * size_t(c.height), 0);
  for (int p : blob.pixels) mask[size_t(p)] = 1;
  const ShapeMatch match = match_shape(mask, c.width, blob.x0, blob.y0, blob.x1, blob.y1);
  s.thing = match.name;
  s.confidence = match.overlap;
  return s;
}

}  // namespace

Seen look_at(const Image& image) {
  const Canvas c(image);
  Seen seen;
  seen.background = name_background(c);
  const std::vector<uint8_t> foreground = without_hairlines(find_foreground(c), c.width, c.height);
  const size_t smallest = size_t(c.width) * size_t(c.height) / 160;
  for (const Blob& blob : blobs_of(foreground, c.width, c.height, smallest, c.width / 64)) {
    const auto counts = colour_counts(c, blob);
    const size_t main = size_t(std::max_element(counts.begin(), counts.end()) - counts.begin());
    SeenThing outer = recognise(c, blob, main);

    // Another thing inside: a compact blob of another colour well within this one, which has then no hole of its own.
    std::vector<SeenThing> inner;
    for (size_t k = 0; k < counts.size(); ++k) {
      if (k == main || counts[k] < smallest) continue;
      std::vector<uint8_t> mask(foreground.size(), 0);
      for (int p : blob.pixels) {
        const Colour pixel = c.at(p % c.width, p / c.width);
        mask[size_t(p)] = nearest_colour(pixel) == k;
      }
      const std::vector<Blob> parts = blobs_of(mask, c.width, c.height, smallest, 0);
      if (parts.empty()) continue;
      const Blob& part = parts[0];
      const int margin = std::max(2, (blob.x1 - blob.x0) / 12);
      const bool within = part.x0 > blob.x0 + margin && part.x1 < blob.x1 - margin && part.y0 > blob.y0 + margin &&
                          part.y1 < blob.y1 - margin;
      const double share = double(part.pixels.size()) / double(blob.pixels.size());
      const bool host = outer.thing == "circle" || outer.thing == "square" || outer.thing == "heart";
      if (!within || !host || share < 0.06 || outer.size < 0.38) continue;
      inner.push_back(recognise(c, part, k));
      inner.back().inside = true;
    }
    seen.things.push_back(outer);
    // Stripes and dots make many parts; a thing inside is one.
    if (inner.size() == 1) seen.things.push_back(inner[0]);
  }
  return seen;
}

Verdict judge(const Seen& seen, const Wanted& wanted) {
  const auto fits = [](const SeenThing& s, const Wanted::Thing& w) {
    return s.thing == w.thing && (w.colour.empty() || s.colour == w.colour);
  };
  Verdict verdict;
  const size_t n = wanted.relation == "three" ? 3 : wanted.things.size();
  const auto want = [&](size_t i) -> const Wanted::Thing& {
    return wanted.things[std::min(i, wanted.things.size() - 1)];
  };
  std::vector<size_t> order(seen.things.size());
  std::iota(order.begin(), order.end(), size_t(0));
  if (order.size() != n) return verdict;
  do {
    bool all = true;
    for (size_t i = 0; i < n && all; ++i) all = fits(seen.things[order[i]], want(i));
    if (!all) continue;
    verdict.things = true;
    const auto thing = [&](size_t i) -> const SeenThing& { return seen.things[order[i]]; };
    const std::string& r = wanted.relation;
    bool stands = r.empty() || r == "three";
    if (n >= 2) {
      const double dx = thing(1).x - thing(0).x, dy = thing(1).y - thing(0).y;
      if (r == "left of") stands = dx > std::abs(dy);
      if (r == "right of") stands = -dx > std::abs(dy);
      if (r == "above") stands = dy > std::abs(dx);
      if (r == "below") stands = -dy > std::abs(dx);
      if (r == "inside") stands = thing(0).inside;
    }
    if (r == "between" && n == 3) {
      const auto middle = [](double a, double b, double c) { return (b < a && a < c) || (c < a && a < b); };
      const bool wide = std::abs(thing(1).x - thing(2).x) > std::abs(thing(1).y - thing(2).y);
      stands = wide ? middle(thing(0).x, thing(1).x, thing(2).x) : middle(thing(0).y, thing(1).y, thing(2).y);
    }
    verdict.relation |= stands;
  } while (std::next_permutation(order.begin(), order.end()));
  return verdict;
}

}  // namespace darkroom::scenes

// Reads a picture of Scenes and says what is in it: things, colours, places, background. Knows neither the painter nor the
// model: shapes are its own, colours are what people call so.
#pragma once

#include <string>
#include <vector>

#include "model/pipeline.h"

namespace darkroom::scenes {

struct SeenThing {
  std::string thing, colour;
  double x = 0, y = 0;  // of its middle, in parts of the picture
  double size = 0;      // the larger side of its box, in parts of the picture
  bool inside = false;  // of the thing before it in the list
  double confidence = 0;
};

struct Seen {
  std::string background;
  std::vector<SeenThing> things;  // large first; what is inside another follows it
};

Seen look_at(const Image& image);

// What a caption of the plain kind asks for: "a red boat above a yellow moon", "three blue fish", "a star".
struct Wanted {
  struct Thing {
    std::string thing, colour;  // colour "" where none is named
  };
  std::vector<Thing> things;
  std::string relation;  // "", "left of", "right of", "above", "below", "inside", "between", "three"
};

// Whether the things (with their colours) are there, and whether they stand as they should. Each wanted thing is matched with
// a different one of those seen.
struct Verdict {
  bool things = false, relation = false;
};
Verdict judge(const Seen& seen, const Wanted& wanted);

}  // namespace darkroom::scenes

// Pictures in and out: PNG, JPEG and WebP are read, PNG is written.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/pipeline.h"

namespace darkroom {

// 8-bit RGB; transparency is laid over white. Throws file_error naming the file and what is wrong with it.
Image read_image(const std::string& path);
// The grey values of a picture: a mask.
std::vector<uint8_t> read_mask(const std::string& path, int width, int height);

// Scales by area where it shrinks, linearly where it grows, after cutting the middle out to the new shape.
Image resize_image(const Image& image, int width, int height);

// Written whole or not at all. `parameters` goes into a text chunk of that name, as web UIs write it: tEXt, or iTXt where
// Latin-1 is not enough. Throws file_error.
void write_png(const std::string& path, const Image& image, const std::string& parameters);

// The text chunk of that name of a PNG; nothing where it has none. Throws file_error where it is no PNG.
std::optional<std::string> read_png_text(const std::string& path, const std::string& keyword);

}  // namespace darkroom

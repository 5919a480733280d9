// The text that web UIs write into their pictures, so that a picture says how it was made:
//   PROMPT
//   Negative prompt: ...
//   Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x512, Model: name, ...
#pragma once

#include <charconv>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>

#include "kernels/core/error.h"
#include "model/pipeline.h"

namespace darkroom {

// What a picture is made from, by names: the model, "lora:0.8, other:1", "word, other"; "" for none.
struct Ingredients {
  std::string model, loras, embeddings;
};

std::string format_parameters(const ResolvedRequest& request, const Ingredients& ingredients,
                              const PipelineOptions& options);

// What a picture's parameters say. Keys as they stand there ("Steps", "CFG scale"); the prompts under "prompt" and
// "negative". Throws file_error where there are no parameters in the text.
std::map<std::string, std::string> parse_parameters(const std::string& text, const std::string& where);

// One of their values as a number. Throws file_error naming file and key where it is none, has something behind it, is not finite, or
// does not fit.
template <typename T>
T parse_number(const std::string& text, std::string_view key, const std::string& where) {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  bool good = error == std::errc() && end == text.data() + text.size();
  if constexpr (std::is_floating_point_v<T>) good = good && std::isfinite(number);
  if (!good) throw file_error("{}: its parameters say {}: {}, which is no number that can be used", where, key, text);
  return number;
}

}  // namespace darkroom

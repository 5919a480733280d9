// The text that web UIs write into their pictures, so that a picture says how it was made:
//   PROMPT
//   Negative prompt: ...
//   Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x512, Model: name, ...
#pragma once

#include <map>
#include <string>

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

}  // namespace darkroom

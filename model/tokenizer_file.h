// CLIP's merges from wherever people have them. Single-file checkpoints carry no tokenizer; all of Stable Diffusion's text
// encoders use the same one.
#pragma once

#include <map>
#include <optional>
#include <string>

namespace darkroom {

struct TokenizerTexts {
  std::string merges;                // as merges.txt has them: "#version: 0.2", then a pair a line
  std::optional<std::string> vocab;  // vocab.json, where there is one
};

// `path`: merges.txt; bpe_simple_vocab_16e6.txt, whose first 48,894 pairs they are; either of them packed (.gz); a zip file or wheel
// that contains the latter (open_clip_torch's does); a tokenizer folder of diffusers, or the model folder around it.
// Throws file_error.
TokenizerTexts read_tokenizer(const std::string& path);

}  // namespace darkroom

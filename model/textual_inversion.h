// Textual inversion: words that a text encoder learned after its training, as rows that its token embedding does not have.
// Source: Gal et al., An Image is Worth One Word (2022).
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace darkroom {

// The vectors of one text encoder, [count, width].
struct LearnedVectors {
  int64_t count = 0, width = 0;
  std::vector<float> values;
};

struct TextualInversion {
  std::string path, word;
  // By what the file calls them: "clip_l" and "clip_g" (the first and second text encoder of XL), or "" for one set of
  // vectors, of whichever encoder has its width.
  std::map<std::string, LearnedVectors> sets;

  std::string summary() const;  // "2 vectors of 768"
};

// "FILE" or "FILE:WORD", a .safetensors or .pt file: with emb_params or string_to_param (the web UIs'), with clip_l and clip_g, or
// with one tensor (diffusers'), whose name is then the word. The word is otherwise the file's name without its ending. Throws
// file_error where the file holds no vectors of this kind, or one that is not finite.
TextualInversion read_textual_inversion(const std::string& spec);

// A word's place in one text encoder: the ids of its vectors are first … first + count − 1.
struct LearnedWord {
  std::string word;
  int32_t first;
  const LearnedVectors* vectors;
};

// The words in a text encoder ("text_encoder", "text_encoder_2") that has `vocab_size` rows of `width` numbers of its own; the
// learned ones follow them. Throws file_error naming the file where one has no vectors for it.
std::vector<LearnedWord> learned_words(std::span<const TextualInversion> inversions, std::string_view component,
                                       int64_t vocab_size, int64_t width);

// A checkpoint whose token embeddings have the learned vectors as further rows.
class LearnedCheckpoint : public Checkpoint {
 public:
  // Throws as learned_words() does.
  LearnedCheckpoint(std::unique_ptr<Checkpoint> base, std::span<const TextualInversion> inversions);

  WeightView find(std::string_view name) const override;
  WeightView describe(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string where() const override { return base_->where(); }
  std::optional<std::string> text(std::string_view name) const override { return base_->text(name); }
  std::vector<std::string> texts() const override { return base_->texts(); }
  bool has_component(std::string_view component) const override { return base_->has_component(component); }
  std::vector<std::string> tensors() const override { return base_->tensors(); }
  std::vector<std::string> evidence() const override { return base_->evidence(); }

 private:
  struct Table {
    std::vector<float> rows;               // what is added
    mutable std::vector<std::byte> whole;  // made when it is asked for; stays, as kernels read it where it is
  };

  std::unique_ptr<Checkpoint> base_;
  std::map<std::string, Table, std::less<>> tables_;  // by weight
};

}  // namespace darkroom

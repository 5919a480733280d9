// CLIP's byte-level BPE: text → ids.   Source: Sennrich et al. (2016); Radford et al., CLIP (2021).
//
// Text is brought to NFC, lower case (character by character) and single spaces, cut into words by the pattern
//   's|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
// and each word's UTF-8 bytes, the last marked "</w>", are merged by rank. Every text has ids: nothing is unknown.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace darkroom {

class Tokenizer {
 public:
  // The contents of merges.txt and, where there is one, of vocab.json; without it the vocabulary is the 256 bytes, the same
  // with "</w>", the merges, and the two special tokens. `where` names them in errors. Throws file_error.
  Tokenizer(std::string_view merges, std::optional<std::string_view> vocab, std::string_view where);

  // From now on this entry, written out in a text, is one token wherever it stands, as "<|endoftext|>" is. Checkpoints that pad
  // with "!" mean it so. Throws file_error where the vocabulary does not have it.
  void add_special(const std::string& entry);

  // From now on this word stands for the ids first … first + count − 1, which the vocabulary does not have: a textual
  // inversion. It is found where no letter or number continues it. Throws usage_error on a word that is empty, that has
  // spaces in it, or that is there already.
  void add_word(std::string_view word, int32_t first, int32_t count);
  // How many ids, this one included, an added word that begins with it has; 1 for all others.
  int32_t word_length(int32_t id) const;

  // Without begin and end. Throws usage_error on text that is no valid UTF-8.
  std::vector<int32_t> encode(std::string_view text) const;

  int32_t begin_id() const { return begin_; }
  int32_t end_id() const { return end_; }
  // The id of a vocabulary entry ("!", "<|endoftext|>", ",</w>"); −1 where there is none.
  int32_t id_of(const std::string& entry) const;
  size_t vocabulary_size() const { return ids_.size(); }

 private:
  struct Merge {
    int32_t rank, id;
  };
  struct Special {
    std::vector<int32_t> characters;  // normalised as texts are
    int32_t first, count;             // ids
    bool whole_word;                  // only where no letter or number continues it
  };
  // The longest special token or added word that begins at a character; null where none does.
  const Special* special_at(const std::vector<int32_t>& characters, size_t at) const;
  void encode_word(std::string_view word, std::vector<int32_t>& out) const;

  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<uint64_t, Merge> merges_;  // by left << 32 | right
  int32_t bytes_[256], last_bytes_[256];        // ids of single bytes, within and at the end of a word
  int32_t begin_ = 0, end_ = 0;
  std::vector<Special> specials_;
};

}  // namespace darkroom

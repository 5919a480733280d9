#include "model/prompt.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace darkroom {

namespace {

constexpr float kBracket = 1.1f;
constexpr float kLargestWeight = 1e4f;  // a thousand brackets are no infinity
constexpr size_t kCommaReach = 20;

// ":1.3)" at `at`: its weight and length; length 0 where it is something else.
struct Colon {
  float weight = 1;
  size_t length = 0;
};
Colon weight_at(std::string_view s, size_t at) {
  if (at >= s.size() || s[at] != ':') return {};
  size_t i = at + 1;
  while (i < s.size() && s[i] == ' ') ++i;
  if (i < s.size() && s[i] == '+') ++i;
  Colon c;
  const auto [end, error] = std::from_chars(s.data() + i, s.data() + s.size(), c.weight);
  if (error != std::errc() || !std::isfinite(c.weight)) return {};
  i = size_t(end - s.data());
  while (i < s.size() && s[i] == ' ') ++i;
  if (i >= s.size() || s[i] != ')') return {};
  c.length = i + 1 - at;
  return c;
}

bool is_word_character(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80); }

// Appends text, cut where BREAK stands as a word of its own.
void append(std::vector<WeightedText>& parts, const std::string& text) {
  constexpr std::string_view kBreak = "BREAK";
  size_t begin = 0;
  bool starts = false;
  for (size_t at = text.find(kBreak); at != std::string::npos; at = text.find(kBreak, at + 1)) {
    const size_t after = at + kBreak.size();
    if ((at > 0 && is_word_character(text[at - 1])) || (after < text.size() && is_word_character(text[after])))
      continue;
    parts.push_back({text.substr(begin, at - begin), 1.0f, starts});
    begin = after;
    starts = true;
  }
  parts.push_back({text.substr(begin), 1.0f, starts});
}

}  // namespace

std::vector<WeightedText> parse_prompt(std::string_view s) {
  std::vector<WeightedText> parts;
  std::vector<size_t> round, square;  // where open brackets began
  std::string text;
  const auto flush = [&] {
    if (!text.empty()) append(parts, text);
    text.clear();
  };
  const auto multiply = [&](size_t from, float weight) {
    for (size_t i = from; i < parts.size(); ++i)
      parts[i].weight = std::clamp(parts[i].weight * weight, -kLargestWeight, kLargestWeight);
  };
  for (size_t at = 0; at < s.size();) {
    const char c = s[at];
    if (c == '\\' && at + 1 < s.size() && std::string_view("()[]\\").find(s[at + 1]) != std::string_view::npos) {
      text += s[at + 1];
      at += 2;
      continue;
    }
    const Colon colon = round.empty() ? Colon{} : weight_at(s, at);
    if (c == '(' || c == '[') {
      flush();
      (c == '(' ? round : square).push_back(parts.size());
    } else if (colon.length > 0) {
      flush();
      multiply(round.back(), colon.weight);
      round.pop_back();
      at += colon.length;
      continue;
    } else if (c == ')' && !round.empty()) {
      flush();
      multiply(round.back(), kBracket);
      round.pop_back();
    } else if (c == ']' && !square.empty()) {
      flush();
      multiply(square.back(), 1 / kBracket);
      square.pop_back();
    } else {
      text += c;
    }
    ++at;
  }
  flush();
  // Brackets that nobody closed count to the end.
  for (size_t from : round) multiply(from, kBracket);
  for (size_t from : square) multiply(from, 1 / kBracket);

  std::vector<WeightedText> merged;
  for (WeightedText& p : parts) {
    if (!merged.empty() && !p.starts_chunk && merged.back().weight == p.weight)
      merged.back().text += p.text;
    else
      merged.push_back(std::move(p));
  }
  if (merged.empty()) merged.push_back({});
  return merged;
}

namespace {

PromptChunk finish_chunk(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const std::vector<float>& weights,
                         int32_t pad_id, int length) {
  PromptChunk c;
  c.ids.push_back(tokenizer.begin_id());
  c.ids.insert(c.ids.end(), ids.begin(), ids.end());
  c.end_index = int32_t(c.ids.size());
  c.ids.push_back(tokenizer.end_id());
  c.ids.resize(size_t(length), pad_id);
  c.weights.push_back(1.0f);
  c.weights.insert(c.weights.end(), weights.begin(), weights.end());
  c.weights.resize(size_t(length), 1.0f);
  return c;
}

}  // namespace

PromptChunk empty_chunk(const Tokenizer& tokenizer, int32_t pad_id, int length) {
  return finish_chunk(tokenizer, {}, {}, pad_id, length);
}

std::vector<PromptChunk> tokenize_prompt(const Tokenizer& tokenizer, std::string_view prompt, int32_t pad_id,
                                         int length) {
  const size_t room = size_t(length - 2);
  const int32_t comma = tokenizer.id_of(",</w>");
  std::vector<PromptChunk> chunks;
  std::vector<int32_t> ids;
  std::vector<float> weights;
  size_t after_comma = 0;  // in `ids`: what follows the last comma; 0: none yet
  const auto next_chunk = [&](size_t keep) {
    const std::vector<int32_t> rest_ids(ids.begin() + std::ptrdiff_t(keep), ids.end());
    const std::vector<float> rest_weights(weights.begin() + std::ptrdiff_t(keep), weights.end());
    ids.resize(keep);
    weights.resize(keep);
    chunks.push_back(finish_chunk(tokenizer, ids, weights, pad_id, length));
    ids = rest_ids;
    weights = rest_weights;
    after_comma = 0;
  };
  for (const WeightedText& part : parse_prompt(prompt)) {
    if (part.starts_chunk) next_chunk(ids.size());
    const std::vector<int32_t> encoded = tokenizer.encode(part.text);
    for (size_t i = 0; i < encoded.size();) {
      const size_t n = size_t(tokenizer.word_length(encoded[i]));  // an added word is not torn apart
      const bool full = ids.size() + n > room;
      if (encoded[i] == comma && !full) {
        after_comma = ids.size() + 1;
      } else if (full && after_comma > 0 && ids.size() - after_comma < kCommaReach) {
        next_chunk(after_comma);
      }
      if (ids.size() + n > room) next_chunk(ids.size());
      for (size_t end = i + n; i < end; ++i) {
        ids.push_back(encoded[i]);
        weights.push_back(part.weight);
      }
    }
  }
  if (!ids.empty() || chunks.empty()) next_chunk(ids.size());
  return chunks;
}

void apply_weights(const PromptChunk& chunk, float* hidden, size_t width) {
  if (std::ranges::all_of(chunk.weights, [](float w) { return w == 1.0f; })) return;
  const size_t n = chunk.ids.size() * width;
  double before = 0, after = 0;
  for (size_t i = 0; i < n; ++i) before += double(hidden[i]);
  for (size_t i = 0; i < n; ++i) after += double(hidden[i] *= chunk.weights[i / width]);
  const float scale = after != 0 ? float(before / after) : 1.0f;
  for (size_t i = 0; i < n; ++i) hidden[i] *= scale;
}

}  // namespace darkroom

#include "model/tokenizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>

#include "kernels/core/error.h"
#include "runtime/json_text.h"

namespace darkroom {

namespace {

constexpr std::string_view kBegin = "<|startoftext|>", kEnd = "<|endoftext|>", kWordEnd = "</w>";

std::string to_utf8(int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const utf8proc_ssize_t n = utf8proc_encode_char(code_point, bytes);
  return std::string(reinterpret_cast<const char*>(bytes), size_t(n));
}

// The character that stands for each byte in a vocabulary file, and the bytes in the order in which they are numbered:
// printable ones stand for themselves and come first, the others follow from U+0100 on.
struct ByteAlphabet {
  std::array<std::string, 256> text;
  std::array<int, 256> order;

  ByteAlphabet() {
    int n = 0;
    const auto printable = [](int b) {
      return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
    };
    for (int b = 0; b < 256; ++b)
      if (printable(b)) {
        text[size_t(b)] = to_utf8(b);
        order[size_t(n++)] = b;
      }
    for (int b = 0, extra = 0; b < 256; ++b)
      if (!printable(b)) {
        text[size_t(b)] = to_utf8(256 + extra++);
        order[size_t(n++)] = b;
      }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet a;
  return a;
}

// The characters of a text in normal form C and lower case.
std::vector<int32_t> normalized(std::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), utf8proc_ssize_t(text.size()), &composed,
                   utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  if (size < 0) throw usage_error("the prompt is no valid UTF-8 ({})", utf8proc_errmsg(size));
  std::vector<int32_t> characters;
  for (utf8proc_ssize_t at = 0; at < size;) {
    utf8proc_int32_t c = 0;
    const utf8proc_ssize_t n = utf8proc_iterate(composed + at, size - at, &c);
    if (n <= 0) throw usage_error("the prompt is no valid UTF-8 at byte {}", at);
    at += n;
    if (c == 0x130) {  // the one letter whose lower case is two characters
      characters.insert(characters.end(), {'i', 0x307});
    } else {
      characters.push_back(utf8proc_tolower(c));
    }
  }
  return characters;
}

bool is_space(int32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}
bool is_letter(int32_t c) {
  const utf8proc_category_t k = utf8proc_category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_LO;
}
bool is_number(int32_t c) {
  const utf8proc_category_t k = utf8proc_category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

// Length in characters of the word that begins at `at`, which is no space.
size_t piece_length(const std::vector<int32_t>& text, size_t at) {
  if (text[at] == '\'') {
    for (const std::string_view tail : {"s", "t", "re", "ve", "m", "ll", "d"}) {
      size_t n = 0;
      while (n < tail.size() && at + 1 + n < text.size() && text[at + 1 + n] == tail[n]) ++n;
      if (n == tail.size()) return 1 + n;
    }
  }
  if (is_number(text[at])) return 1;
  const bool letters = is_letter(text[at]);
  size_t n = 1;
  while (at + n < text.size() && !is_space(text[at + n]) && !is_number(text[at + n]) &&
         is_letter(text[at + n]) == letters)
    ++n;
  return n;
}

uint64_t pair_key(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

}  // namespace

Tokenizer::Tokenizer(std::string_view merges, std::optional<std::string_view> vocab, std::string_view where) {
  std::vector<std::pair<std::string, std::string>> pairs;
  size_t line_number = 0;
  for (std::string_view rest = merges; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++line_number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (line_number == 1 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string_view::npos)
      throw file_error("{}: merges, line {}: wants two entries with a space between them", where, line_number);
    pairs.emplace_back(line.substr(0, space), line.substr(space + 1));
  }

  if (vocab) {
    const nlohmann::json json = parse_json(*vocab, fmt::format("{}: vocabulary", where));
    if (!json.is_object()) throw file_error("{}: vocabulary: no JSON object", where);
    for (const auto& [entry, id] : json.items()) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > 10'000'000)
        throw file_error("{}: vocabulary: {} has no id", where, entry);
      ids_[entry] = id.get<int32_t>();
    }
  } else {
    for (const std::string_view suffix : {std::string_view(), kWordEnd})
      for (int b : alphabet().order)
        ids_.emplace(alphabet().text[size_t(b)] + std::string(suffix), int32_t(ids_.size()));
    for (const auto& [left, right] : pairs) ids_.emplace(left + right, int32_t(ids_.size()));
    for (const std::string_view special : {kBegin, kEnd}) ids_.emplace(std::string(special), int32_t(ids_.size()));
  }

  const auto need = [&](const std::string& entry) {
    const auto found = ids_.find(entry);
    if (found == ids_.end()) throw file_error("{}: the vocabulary has no entry {}", where, entry);
    return found->second;
  };
  begin_ = need(std::string(kBegin));
  end_ = need(std::string(kEnd));
  specials_ = {{normalized(kBegin), begin_, 1, false}, {normalized(kEnd), end_, 1, false}};
  for (size_t b = 0; b < 256; ++b) {
    bytes_[b] = need(alphabet().text[b]);
    last_bytes_[b] = need(alphabet().text[b] + std::string(kWordEnd));
  }
  for (const auto& [left, right] : pairs)
    merges_.emplace(pair_key(need(left), need(right)), Merge{int32_t(merges_.size()), need(left + right)});
}

void Tokenizer::add_special(const std::string& entry) {
  const int32_t id = id_of(entry);
  if (id < 0) throw file_error("the vocabulary has no entry {} for the special token", entry);
  if (id != begin_ && id != end_) specials_.push_back({normalized(entry), id, 1, false});
}

void Tokenizer::add_word(std::string_view word, int32_t first, int32_t count) {
  Special added{normalized(word), first, count, true};
  if (added.characters.empty() || std::ranges::any_of(added.characters, is_space))
    throw usage_error("\"{}\" is no word that a prompt can hold: wants one or more characters, no spaces", word);
  for (const Special& s : specials_)
    if (s.characters == added.characters) throw usage_error("the word {} has a meaning already", word);
  specials_.push_back(std::move(added));
}

int32_t Tokenizer::word_length(int32_t id) const {
  for (const Special& s : specials_)
    if (s.first == id) return s.count;
  return 1;
}

const Tokenizer::Special* Tokenizer::special_at(const std::vector<int32_t>& text, size_t at) const {
  const auto in_word = [&](size_t i) { return is_letter(text[i]) || is_number(text[i]); };
  const Special* longest = nullptr;
  for (const Special& s : specials_) {
    const size_t n = s.characters.size();
    if (n > text.size() - at ||
        !std::equal(s.characters.begin(), s.characters.end(), text.begin() + std::ptrdiff_t(at)))
      continue;
    if (s.whole_word && ((at > 0 && in_word(at - 1) && in_word(at)) ||
                         (at + n < text.size() && in_word(at + n - 1) && in_word(at + n))))
      continue;
    if (!longest || n > longest->characters.size()) longest = &s;
  }
  return longest;
}

int32_t Tokenizer::id_of(const std::string& entry) const {
  const auto found = ids_.find(entry);
  return found == ids_.end() ? -1 : found->second;
}

// The pair of the lowest rank first, from the left, until none of the word's pairs can be merged.
void Tokenizer::encode_word(std::string_view word, std::vector<int32_t>& out) const {
  std::vector<int32_t> symbols;
  for (size_t i = 0; i < word.size(); ++i)
    symbols.push_back((i + 1 == word.size() ? last_bytes_ : bytes_)[uint8_t(word[i])]);
  while (symbols.size() > 1) {
    const Merge* best = nullptr;
    size_t at = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = merges_.find(pair_key(symbols[i], symbols[i + 1]));
      if (found == merges_.end() || (best && found->second.rank >= best->rank)) continue;
      best = &found->second;
      at = i;
    }
    if (!best) break;
    symbols[at] = best->id;
    symbols.erase(symbols.begin() + std::ptrdiff_t(at) + 1);
  }
  out.insert(out.end(), symbols.begin(), symbols.end());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  const std::vector<int32_t> characters = normalized(text);
  std::vector<int32_t> ids;
  for (size_t at = 0; at < characters.size();) {
    if (is_space(characters[at])) {
      ++at;
      continue;
    }
    if (const Special* special = special_at(characters, at)) {  // written out, it means itself
      for (int32_t i = 0; i < special->count; ++i) ids.push_back(special->first + i);
      at += special->characters.size();
      continue;
    }
    size_t length = piece_length(characters, at);
    for (size_t i = 1; i < length; ++i)
      if (special_at(characters, at + i)) length = i;
    std::string word;
    for (size_t i = 0; i < length; ++i) word += to_utf8(characters[at + i]);
    encode_word(word, ids);
    at += length;
  }
  return ids;
}

}  // namespace darkroom

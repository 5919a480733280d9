#include "runtime/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/core/error.h"
#include "runtime/json_text.h"

namespace darkroom {

namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr JsonLimits kHeaderLimits = {
    .depth = 3,  // the header, a tensor, its shape
    .values = 1'000'000,
    .names = 100'000,  // more tensors than any model has
    .no_name_twice = true,
};

struct TypeInfo {
  std::string_view text;
  size_t bits;
  DType dtype;
};
constexpr TypeInfo kTypes[] = {
    {"F64", 64, DType::f64},  {"F32", 32, DType::f32},     {"F16", 16, DType::f16},     {"BF16", 16, DType::bf16},
    {"I64", 64, DType::i64},  {"I32", 32, DType::i32},     {"U8", 8, DType::u8},        {"I8", 8, DType::none},
    {"I16", 16, DType::none}, {"U16", 16, DType::none},    {"U32", 32, DType::none},    {"U64", 64, DType::none},
    {"BOOL", 8, DType::none}, {"F8_E4M3", 8, DType::none}, {"F8_E5M2", 8, DType::none}, {"C64", 64, DType::none},
};

// A JSON number that is a whole one of at most `limit`.
uint64_t whole(const nlohmann::json& value, uint64_t limit, const std::string& path, const std::string& what) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > limit)
    throw file_error("{}: {} is {}, not a whole number up to {}", path, what, value.dump(), limit);
  return value.get<uint64_t>();
}

SafetensorsEntry parse_entry(const std::string& name, const nlohmann::json& json, uint64_t data_size,
                             const std::string& path) {
  const auto fail = [&](const std::string& what) { return file_error("{}: tensor {}: {}", path, name, what); };
  if (!json.is_object() || json.size() != 3 || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets"))
    throw fail("wants exactly dtype, shape and data_offsets");
  SafetensorsEntry entry;
  if (!json["dtype"].is_string()) throw fail("dtype is no string");
  entry.dtype_text = json["dtype"].get<std::string>();
  const auto* type = std::ranges::find(kTypes, entry.dtype_text, &TypeInfo::text);
  if (type == std::end(kTypes)) throw fail("dtype " + entry.dtype_text + " is not one of the format");
  entry.dtype = type->dtype;

  if (!json["shape"].is_array()) throw fail("shape is no list");
  uint64_t elements = 1;
  for (const nlohmann::json& d : json["shape"]) {
    const uint64_t dim = whole(d, uint64_t(std::numeric_limits<int64_t>::max()), path, name + ": shape");
    entry.shape.push_back(int64_t(dim));
    if (dim != 0 && elements > std::numeric_limits<uint64_t>::max() / 64 / dim) throw fail("shape overflows");
    elements *= dim;
  }
  const nlohmann::json& offsets = json["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) throw fail("data_offsets wants two numbers");
  const uint64_t begin = whole(offsets[0], data_size, path, name + ": data_offsets");
  const uint64_t end = whole(offsets[1], data_size, path, name + ": data_offsets");
  if (begin > end) throw fail(fmt::format("data_offsets {} to {} run backwards", begin, end));
  if (end - begin != elements * type->bits / 8)
    throw fail(fmt::format("has {} bytes, {} elements of {} take {}", end - begin, elements, entry.dtype_text,
                           elements * type->bits / 8));
  entry.offset = begin;
  entry.bytes = end - begin;
  return entry;
}

}  // namespace

Safetensors::Safetensors(const std::string& path) : file_(path) {
  uint64_t header = 0;
  if (file_.size() < 8) throw file_error("{}: has {} bytes, too few for a safetensors file", path, file_.size());
  std::memcpy(&header, file_.data(), 8);
  if (header > kMaxHeader && header <= file_.size() - 8)
    throw file_error("{}: has a header of {} bytes; the format allows {}", path, header, kMaxHeader);
  if (header > file_.size() - 8)
    throw file_error("{}: says that its header has {} bytes, the file has {}: truncated, or no safetensors file", path,
                     header, file_.size());
  const std::string_view text = file_.text().substr(8, header);
  if (text.empty() || text[0] != '{')
    throw file_error("{}: the header does not begin with {{: no safetensors file", path);
  const nlohmann::json json = parse_json(text, path + ": the header", kHeaderLimits);
  if (!json.is_object()) throw file_error("{}: the header is no JSON object", path);

  const uint64_t data_begin = 8 + header, data_size = file_.size() - data_begin;
  std::vector<const std::pair<const std::string, SafetensorsEntry>*> order;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) throw file_error("{}: __metadata__ is no object", path);
      for (const auto& [key, v] : value.items()) {
        if (!v.is_string()) throw file_error("{}: __metadata__ {} is no string", path, key);
        metadata_[key] = v.get<std::string>();
      }
      continue;
    }
    const auto [at, fresh] = entries_.emplace(name, parse_entry(name, value, data_size, path));
    order.push_back(&*at);
  }
  // The tensors cover the data without holes and without overlap.
  std::ranges::sort(order, {}, [](const auto* e) { return std::pair(e->second.offset, e->second.bytes); });
  uint64_t at = 0;
  for (const auto* e : order) {
    if (e->second.offset != at)
      throw file_error("{}: tensor {} begins at {}, the one before it ends at {}", path, e->first, e->second.offset,
                       at);
    at += e->second.bytes;
  }
  if (at != data_size) throw file_error("{}: the tensors take {} bytes, the file has {} of data", path, at, data_size);
  for (auto& [name, entry] : entries_) entry.offset += data_begin;
}

const SafetensorsEntry* Safetensors::find(std::string_view name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

}  // namespace darkroom

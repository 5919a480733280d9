#include "runtime/weight_file.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/core/error.h"
#include "runtime/q8.h"
#include "runtime/weight_file_layout.h"

namespace darkroom {

namespace {

uint64_t align_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

template <typename T>
T read_record(const std::byte* p) {
  T record;
  std::memcpy(&record, p, sizeof(T));
  return record;
}

// What the encoding says about a tensor: bytes as a whole, and elements and bytes of a block.
struct Storage {
  uint64_t bytes;
  uint32_t block_elements, block_bytes;
};
Storage storage_of(WeightEncoding encoding, DType dtype, const Shape& shape) {
  if (encoding == WeightEncoding::q8)
    return {q8_layout(shape).bytes(), uint32_t(kQ8Block), uint32_t(kQ8Block + int64_t(sizeof(f16_t)))};
  return {uint64_t(shape.elements()) * dtype_size(dtype), 1, uint32_t(dtype_size(dtype))};
}

bool all_zero(const uint8_t* p, size_t n) {
  return std::all_of(p, p + n, [](uint8_t b) { return b == 0; });
}

}  // namespace

WeightFile::WeightFile(const std::string& path) : file_(path) {
  const auto fail = [&](const std::string& what) { return file_error("{}: {}", path, what); };
  if (file_.size() < sizeof(sdw::Header) + sizeof(sdw::Trailer))
    throw fail(fmt::format("has {} bytes, too few for a .sdw file", file_.size()));
  const auto header = read_record<sdw::Header>(file_.data());
  if (std::memcmp(header.magic, sdw::kMagic, 8) != 0) throw fail("is no .sdw file (it begins otherwise)");
  if (header.version != sdw::kVersion)
    throw fail(
        fmt::format("is a .sdw file of version {}; this program reads version {}", header.version, sdw::kVersion));
  if (header.checksum != XXH3_64bits(file_.data(), sizeof(header) - 8)) throw fail("the header is damaged (checksum)");
  if (header.header_bytes != sizeof(header))
    throw fail(fmt::format("the header says that it has {} bytes", header.header_bytes));
  if (header.features & ~sdw::kKnownFeatures)
    throw fail(
        fmt::format("needs features {:#x} that this program does not have", header.features & ~sdw::kKnownFeatures));
  if (header.file_bytes != file_.size())
    throw fail(fmt::format("should have {} bytes and has {}: {}", header.file_bytes, file_.size(),
                           header.file_bytes > file_.size() ? "truncated" : "something was appended"));
  const auto trailer = read_record<sdw::Trailer>(file_.data() + file_.size() - sizeof(sdw::Trailer));
  if (std::memcmp(trailer.magic, sdw::kTrailerMagic, 8) != 0 ||
      trailer.checksum != XXH3_64bits(&trailer, sizeof(trailer) - 8) || trailer.file_bytes != header.file_bytes ||
      trailer.directory_checksum != header.directory_checksum)
    throw fail("the trailer is damaged");

  // The directory: records one after the other, then the names.
  const uint64_t data_end = file_.size() - sizeof(sdw::Trailer);
  if (header.directory_offset != sizeof(header) || header.directory_bytes > data_end - sizeof(header))
    throw fail("the directory does not fit into the file");
  const uint64_t records = uint64_t(header.component_count) * sizeof(sdw::Component) +
                           uint64_t(header.tensor_count) * sizeof(sdw::Tensor) +
                           uint64_t(header.text_count) * sizeof(sdw::Text);
  if (records > header.directory_bytes || header.string_bytes != header.directory_bytes - records)
    throw fail(fmt::format("the directory has {} bytes; its records and names say otherwise", header.directory_bytes));
  const std::byte* at = file_.data() + header.directory_offset;
  if (header.directory_checksum != XXH3_64bits(at, header.directory_bytes))
    throw fail("the directory is damaged (checksum)");
  const std::string_view names(reinterpret_cast<const char*>(at + records), header.string_bytes);
  const auto name_of = [&](uint32_t offset, uint32_t bytes, const char* what, size_t index) {
    if (offset > names.size() || bytes > names.size() - offset || bytes == 0)
      throw fail(fmt::format("{} {}: its name lies outside of the names", what, index));
    return std::string(names.substr(offset, bytes));
  };
  const uint64_t data_begin = header.directory_offset + header.directory_bytes;
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  const auto check_range = [&](const std::string& name, uint64_t offset, uint64_t bytes, uint64_t alignment) {
    if (offset % alignment != 0) throw fail(fmt::format("{} begins at {}, no multiple of {}", name, offset, alignment));
    if (offset < data_begin || offset > data_end || bytes > data_end - offset)
      throw fail(fmt::format("{} lies at {} with {} bytes, outside of the file's data", name, offset, bytes));
    if (bytes > 0) ranges.emplace_back(offset, bytes);
  };

  struct Extent {
    uint64_t offset, bytes;
    uint32_t first, count;
  };
  std::vector<Extent> extents;
  uint32_t expected = 0;
  for (size_t i = 0; i < header.component_count; ++i, at += sizeof(sdw::Component)) {
    const auto c = read_record<sdw::Component>(at);
    components_.push_back(name_of(c.name_offset, c.name_bytes, "component", i));
    if (std::count(components_.begin(), components_.end(), components_.back()) > 1)
      throw fail(fmt::format("component {} is there twice", components_.back()));
    if (c.first_tensor != expected || c.tensor_count > header.tensor_count - expected ||
        !all_zero(c.reserved, sizeof(c.reserved)))
      throw fail(fmt::format("component {}: its tensors are numbered wrongly", components_.back()));
    if (c.offset % kComponentAlignment != 0)
      throw fail(fmt::format("component {} begins at {}, no multiple of {}", components_.back(), c.offset,
                             kComponentAlignment));
    expected += c.tensor_count;
    extents.push_back({c.offset, c.bytes, c.first_tensor, c.tensor_count});
  }
  if (expected != header.tensor_count) throw fail("there are tensors that belong to no component");
  for (size_t i = 0; i < header.tensor_count; ++i, at += sizeof(sdw::Tensor)) {
    const auto r = read_record<sdw::Tensor>(at);
    WeightFileTensor t;
    t.name = name_of(r.name_offset, r.name_bytes, "tensor", i);
    if (r.component >= extents.size() || i < extents[r.component].first ||
        i - extents[r.component].first >= extents[r.component].count)
      throw fail(fmt::format("tensor {}: belongs to component {}, which says otherwise", t.name, r.component));
    t.component = r.component;
    const std::string full = components_[t.component] + "/" + t.name;
    t.dtype = DType(r.dtype);
    t.encoding = WeightEncoding(r.encoding);
    const bool q8 = t.encoding == WeightEncoding::q8;
    if (!q8 && t.encoding != WeightEncoding::plain)
      throw fail(fmt::format("{}: encoding {} is not implemented", full, r.encoding));
    if (q8 && !(header.features & sdw::kFeatureQ8))
      throw fail(fmt::format("{}: is q8, the header's features say that nothing is", full));
    if ((t.dtype != DType::f32 && t.dtype != DType::f16 && t.dtype != DType::bf16) || (q8 && t.dtype != DType::f16))
      throw fail(fmt::format("{}: type {} is not implemented", full, r.dtype));
    if (r.rank < 1 || r.rank > kMaxRank || (q8 && r.rank != 2 && r.rank != 4) ||
        !all_zero(r.reserved, sizeof(r.reserved)))
      throw fail(fmt::format("{}: its record is not valid", full));
    uint64_t room = uint64_t(std::numeric_limits<int64_t>::max()) / dtype_size(t.dtype);
    for (size_t d = 0; d < 4; ++d) {
      const uint64_t n = r.shape[d];
      if (n == 0 || (d >= r.rank && n != 1) || n > room) throw fail(fmt::format("{}: its shape is not valid", full));
      room /= n;
      if (d < r.rank) t.shape.push_back(int64_t(n));
    }
    const Storage storage = storage_of(t.encoding, t.dtype, t.shape);
    if (r.block_elements != storage.block_elements || r.block_bytes != storage.block_bytes)
      throw fail(fmt::format("{}: its record is not valid", full));
    if (storage.bytes != r.bytes)
      throw fail(
          fmt::format("{}: has {} bytes, its shape {} takes {}", full, r.bytes, t.shape.to_string(), storage.bytes));
    t.offset = r.offset;
    t.bytes = r.bytes;
    t.checksum = r.checksum;
    check_range(full, t.offset, t.bytes, kWeightAlignment);
    const Extent& e = extents[t.component];
    if (t.offset < e.offset || t.bytes > e.bytes || t.offset - e.offset > e.bytes - t.bytes)
      throw fail(fmt::format("{}: lies outside of its component", full));
    if (!by_name_.emplace(full, tensors_.size()).second) throw fail(fmt::format("{} is there twice", full));
    tensors_.push_back(std::move(t));
  }
  for (size_t i = 0; i < header.text_count; ++i, at += sizeof(sdw::Text)) {
    const auto r = read_record<sdw::Text>(at);
    const std::string name = name_of(r.name_offset, r.name_bytes, "text", i);
    check_range(name, r.offset, r.bytes, 1);
    if (r.checksum != XXH3_64bits(file_.data() + r.offset, r.bytes))
      throw fail(fmt::format("text {} is damaged (checksum)", name));
    if (!texts_.emplace(name, file_.text().substr(r.offset, r.bytes)).second)
      throw fail(fmt::format("text {} is there twice", name));
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first - ranges[i - 1].first < ranges[i - 1].second)
      throw fail(fmt::format("what lies at {} overlaps with what lies at {}", ranges[i].first, ranges[i - 1].first));
}

const WeightFileTensor* WeightFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &tensors_[found->second];
}

std::vector<std::string> WeightFile::texts() const {
  std::vector<std::string> names;
  for (const auto& [name, text] : texts_) names.push_back(name);
  return names;
}

const std::string_view* WeightFile::text(std::string_view name) const {
  const auto found = texts_.find(name);
  return found == texts_.end() ? nullptr : &found->second;
}

void WeightFile::verify(const WeightFileTensor& t) const {
  if (XXH3_64bits(data(t), t.bytes) != t.checksum)
    throw file_error("{}: {}/{} at {} is damaged (checksum)", path(), components_[t.component], t.name, t.offset);
}

// --- writing ------------------------------------------------------------------------------------------------------------

void WeightFileWriter::add_text(std::string name, std::string text) {
  texts_.push_back({std::move(name), std::move(text)});
}

void WeightFileWriter::add_tensor(const std::string& component, std::string name, DType dtype, const Shape& shape,
                                  WeightEncoding encoding) {
  if (components_.empty() || components_.back() != component) components_.push_back(component);
  WeightFileTensor t;
  t.name = std::move(name);
  t.component = components_.size() - 1;
  t.encoding = encoding;
  t.dtype = dtype;
  t.shape = shape;
  t.bytes = storage_of(encoding, dtype, shape).bytes;
  tensors_.push_back(std::move(t));
}

void WeightFileWriter::begin() {
  uint64_t names = 0;
  for (const std::string& c : components_) names += c.size();
  for (const WeightFileTensor& t : tensors_) names += t.name.size();
  for (const Text& t : texts_) names += t.name.size();
  directory_bytes_ = components_.size() * sizeof(sdw::Component) + tensors_.size() * sizeof(sdw::Tensor) +
                     texts_.size() * sizeof(sdw::Text) + names;
  uint64_t at = sizeof(sdw::Header) + directory_bytes_;
  for (Text& t : texts_) {
    t.offset = at;
    file_.write_at(at, t.text.data(), t.text.size());
    at += t.text.size();
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const bool first = i == 0 || tensors_[i].component != tensors_[i - 1].component;
    at = align_up(at, first ? kComponentAlignment : kWeightAlignment);
    tensors_[i].offset = at;
    at += tensors_[i].bytes;
  }
  end_ = align_up(at, kWeightAlignment) + sizeof(sdw::Trailer);
  hash_ = std::shared_ptr<void>(XXH3_createState(), [](void* p) { XXH3_freeState(static_cast<XXH3_state_t*>(p)); });
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(hash_.get()));
}

void WeightFileWriter::write(const void* data, size_t bytes) {
  if (current_ == tensors_.size() || bytes > tensors_[current_].bytes - written_)
    throw internal_error("weight file: more bytes than were declared");
  WeightFileTensor& t = tensors_[current_];
  auto* state = static_cast<XXH3_state_t*>(hash_.get());
  file_.write_at(t.offset + written_, data, bytes);
  XXH3_64bits_update(state, data, bytes);
  written_ += bytes;
  if (written_ < t.bytes) return;
  t.checksum = XXH3_64bits_digest(state);
  XXH3_64bits_reset(state);
  written_ = 0;
  ++current_;
}

void WeightFileWriter::commit() {
  if (current_ != tensors_.size())
    throw internal_error("weight file: {} tensors of {} are written", current_, tensors_.size());
  std::string records, names;
  const auto put = [&](const auto& record) { records.append(reinterpret_cast<const char*>(&record), sizeof(record)); };
  const auto name = [&](auto& record, const std::string& text) {
    record.name_offset = uint32_t(names.size());
    record.name_bytes = uint32_t(text.size());
    names += text;
  };
  for (size_t c = 0; c < components_.size(); ++c) {
    sdw::Component r = {};
    name(r, components_[c]);
    const auto member = [&](const WeightFileTensor& t) { return t.component == c; };
    const auto first = std::find_if(tensors_.begin(), tensors_.end(), member);
    const auto last = std::find_if_not(first, tensors_.end(), member) - 1;
    r.first_tensor = uint32_t(first - tensors_.begin());
    r.tensor_count = uint32_t(last - first + 1);
    r.offset = first->offset;
    r.bytes = last->offset + last->bytes - first->offset;
    put(r);
  }
  for (const WeightFileTensor& t : tensors_) {
    sdw::Tensor r = {};
    name(r, t.name);
    r.component = uint32_t(t.component);
    r.encoding = uint16_t(t.encoding);
    r.dtype = uint8_t(t.dtype);
    r.rank = uint8_t(t.shape.rank());
    for (int d = 0; d < 4; ++d) r.shape[d] = d < t.shape.rank() ? uint64_t(t.shape[d]) : 1;
    r.offset = t.offset;
    r.bytes = t.bytes;
    r.checksum = t.checksum;
    const Storage storage = storage_of(t.encoding, t.dtype, t.shape);
    r.block_elements = storage.block_elements;
    r.block_bytes = storage.block_bytes;
    put(r);
  }
  for (const Text& t : texts_) {
    sdw::Text r = {};
    name(r, t.name);
    r.offset = t.offset;
    r.bytes = t.text.size();
    r.checksum = XXH3_64bits(t.text.data(), t.text.size());
    put(r);
  }
  const std::string directory = records + names;
  if (directory.size() != directory_bytes_)
    throw internal_error("weight file: the directory has another size than planned");

  sdw::Header h = {};
  std::memcpy(h.magic, sdw::kMagic, 8);
  h.version = sdw::kVersion;
  h.header_bytes = sizeof(h);
  for (const WeightFileTensor& tensor : tensors_)
    if (tensor.encoding == WeightEncoding::q8) h.features |= sdw::kFeatureQ8;
  h.file_bytes = end_;
  h.directory_offset = sizeof(h);
  h.directory_bytes = directory.size();
  h.directory_checksum = XXH3_64bits(directory.data(), directory.size());
  h.component_count = uint32_t(components_.size());
  h.tensor_count = uint32_t(tensors_.size());
  h.text_count = uint32_t(texts_.size());
  h.string_bytes = uint32_t(names.size());
  h.checksum = XXH3_64bits(&h, sizeof(h) - 8);
  sdw::Trailer t = {};
  std::memcpy(t.magic, sdw::kTrailerMagic, 8);
  t.file_bytes = end_;
  t.directory_checksum = h.directory_checksum;
  t.checksum = XXH3_64bits(&t, sizeof(t) - 8);
  file_.write_at(sizeof(h), directory.data(), directory.size());
  file_.write_at(end_ - sizeof(t), &t, sizeof(t));
  file_.write_at(0, &h, sizeof(h));
  file_.commit();
}

}  // namespace darkroom

#include "runtime/zip_archive.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

static_assert(std::endian::native == std::endian::little, "zip fields are read as they lie");

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocator64Bytes = 20;
constexpr size_t kMaxComment = 0xffff;
constexpr uint16_t kEncrypted = 1, kZip64Extra = 1;
constexpr uint64_t kMaxMembers = 100'000;

// A window onto the file: every read is checked.
class Fields {
 public:
  Fields(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  template <typename T>
  T at(uint64_t offset) const {
    if (offset > bytes_.size() || sizeof(T) > bytes_.size() - offset)
      throw file_error("{}: zip: a record at {} is cut off", where_, offset);
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  std::span<const std::byte> part(uint64_t offset, uint64_t bytes) const {
    if (offset > bytes_.size() || bytes > bytes_.size() - offset)
      throw file_error("{}: zip: {} bytes at {} lie beyond the end of the file", where_, bytes, offset);
    return bytes_.subspan(size_t(offset), size_t(bytes));
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string& where_;
};

struct Directory {
  uint64_t offset, bytes, members;
};

// The record at the end says where the table of contents lies; zip64 has another one before it.
Directory find_directory(const Fields& file, uint64_t size, const std::string& where) {
  if (size < kEndBytes) throw file_error("{}: zip: has {} bytes, too few", where, size);
  uint64_t end = size;
  const uint64_t lowest = size - std::min<uint64_t>(size, kEndBytes + kMaxComment);
  for (uint64_t at = size - kEndBytes + 1; at-- > lowest && end == size;)
    if (file.at<uint32_t>(at) == kEnd && file.at<uint16_t>(at + 20) == size - at - kEndBytes) end = at;
  if (end == size) throw file_error("{}: zip: has no table of contents at its end: truncated?", where);
  Directory d{file.at<uint32_t>(end + 16), file.at<uint32_t>(end + 12), file.at<uint16_t>(end + 10)};
  uint16_t volumes = uint16_t(file.at<uint16_t>(end + 4) | file.at<uint16_t>(end + 6));
  if (end >= kLocator64Bytes && file.at<uint32_t>(end - kLocator64Bytes) == kLocator64) {
    const uint64_t at = file.at<uint64_t>(end - kLocator64Bytes + 8);
    if (size < kEnd64Bytes || at > size - kEnd64Bytes || file.at<uint32_t>(at) != kEnd64)
      throw file_error("{}: zip: its zip64 record is not at {}", where, at);
    d = {file.at<uint64_t>(at + 48), file.at<uint64_t>(at + 40), file.at<uint64_t>(at + 32)};
    volumes = uint16_t(file.at<uint32_t>(at + 16) | file.at<uint32_t>(at + 20));
  }
  if (volumes != 0) throw file_error("{}: zip: is one of several volumes", where);
  if (d.offset > size || d.bytes > size - d.offset)
    throw file_error("{}: zip: the table of contents, {} bytes at {}, lies beyond the end of the file", where, d.bytes,
                     d.offset);
  if (d.members > kMaxMembers || d.members > d.bytes / kCentralBytes)
    throw file_error("{}: zip: says that it has {} members, which its table of contents cannot hold", where, d.members);
  return d;
}

}  // namespace

ZipArchive::ZipArchive(std::span<const std::byte> bytes, const std::string& where) : where_(where) {
  const Fields file(bytes, where_);
  const Directory directory = find_directory(file, bytes.size(), where);
  const Fields table(file.part(directory.offset, directory.bytes), where_);
  // Begin and end of the table and of every member with its local header.
  std::vector<std::pair<uint64_t, uint64_t>> ranges = {{directory.offset, directory.offset + directory.bytes}};
  uint64_t at = 0;
  for (uint64_t i = 0; i < directory.members; ++i) {
    if (table.at<uint32_t>(at) != kCentral) throw file_error("{}: zip: member {} has no valid record", where, i);
    const uint16_t name_bytes = table.at<uint16_t>(at + 28), extra_bytes = table.at<uint16_t>(at + 30);
    const auto text = table.part(at + kCentralBytes, name_bytes);
    const std::string name(reinterpret_cast<const char*>(text.data()), text.size());
    if (table.at<uint16_t>(at + 8) & kEncrypted) throw file_error("{}: zip: {} is encrypted", where, name);
    ZipMember member;
    member.method = table.at<uint16_t>(at + 10);
    uint64_t packed = table.at<uint32_t>(at + 20), local = table.at<uint32_t>(at + 42);
    member.size = table.at<uint32_t>(at + 24);
    // Numbers that do not fit into 32 bits stand in an extra field, in this order, those that need it.
    const Fields extra(table.part(at + kCentralBytes + name_bytes, extra_bytes), where_);
    for (uint64_t e = 0; e + 4 <= extra_bytes;) {
      const uint16_t id = extra.at<uint16_t>(e), length = extra.at<uint16_t>(e + 2);
      const Fields field(extra.part(e + 4, length), where_);
      uint64_t next = 0;
      for (uint64_t* number : {&member.size, &packed, &local})
        if (id == kZip64Extra && *number == 0xffffffffu) {
          *number = field.at<uint64_t>(next);
          next += 8;
        }
      e += 4 + uint64_t(length);
    }
    at += kCentralBytes + uint64_t(name_bytes) + extra_bytes + table.at<uint16_t>(at + 32);

    const Fields header(file.part(local, kLocalBytes), where_);
    if (header.at<uint32_t>(0) != kLocal || header.at<uint16_t>(26) != name_bytes ||
        std::memcmp(file.part(local + kLocalBytes, name_bytes).data(), name.data(), name.size()) != 0)
      throw file_error("{}: zip: {} is not at {}, where the table of contents has it", where, name, local);
    const uint64_t data = local + kLocalBytes + name_bytes + header.at<uint16_t>(28);
    member.bytes = file.part(data, packed);
    if (member.method == 0 && packed != member.size)
      throw file_error("{}: zip: {} is stored with {} bytes and said to have {}", where, name, packed, member.size);
    ranges.emplace_back(local, data + packed);
    if (!members_.emplace(name, member).second) throw file_error("{}: zip: has {} twice", where, name);
  }
  std::ranges::sort(ranges);
  for (size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second)
      throw file_error("{}: zip: what lies at {} and at {} overlaps", where, ranges[i - 1].first, ranges[i].first);
}

const ZipMember* ZipArchive::find(std::string_view name) const {
  const auto found = members_.find(name);
  return found == members_.end() ? nullptr : &found->second;
}

std::span<const std::byte> ZipArchive::stored(std::string_view name) const {
  const ZipMember* member = find(name);
  if (!member) throw file_error("{}: has no member {}", where_, name);
  if (member->method != 0) throw file_error("{}: {} is compressed, which torch never does", where_, name);
  return member->bytes;
}

}  // namespace darkroom

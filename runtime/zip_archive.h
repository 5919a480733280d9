// The table of contents of a zip file that is in memory: where each member's bytes lie. Nothing is unpacked.
// Zip64 is read. Refused: encryption, several volumes, members that overlap, two members of one name.
// Source: PKWARE's APPNOTE.TXT 6.3, sections 4.3 and 4.5.3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace darkroom {

struct ZipMember {
  uint16_t method = 0;               // 0 stored, 8 deflated
  uint64_t size = 0;                 // unpacked
  std::span<const std::byte> bytes;  // as they lie in the file
};

class ZipArchive {
 public:
  // True where the bytes begin as a zip file does.
  static bool begins_like_one(std::string_view text) { return text.starts_with("PK\3\4"); }

  // `where` names the file in errors. The bytes must outlive the archive. Throws file_error.
  ZipArchive(std::span<const std::byte> file, const std::string& where);

  const std::map<std::string, ZipMember, std::less<>>& members() const { return members_; }
  // Null where there is none.
  const ZipMember* find(std::string_view name) const;
  // The bytes of a member that must be there, and must be stored as it is. Throws file_error.
  std::span<const std::byte> stored(std::string_view name) const;

 private:
  std::string where_;
  std::map<std::string, ZipMember, std::less<>> members_;
};

}  // namespace darkroom

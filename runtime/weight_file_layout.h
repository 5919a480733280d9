// The records of a .sdw file as they lie in it: little-endian, fixed sizes. See docs/weight-format.md.
#pragma once

#include <cstdint>

namespace darkroom::sdw {

inline constexpr char kMagic[8] = {'\x89', 'S', 'D', 'W', '\r', '\n', '\x1a', '\n'};
inline constexpr char kTrailerMagic[8] = {'S', 'D', 'W', ' ', 'e', 'n', 'd', '\n'};
inline constexpr uint32_t kVersion = 1;
inline constexpr uint64_t kFeatureQ8 = 1;  // there are tensors of encoding 1
inline constexpr uint64_t kKnownFeatures = kFeatureQ8;

struct Header {  // 256 bytes at offset 0
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;  // 256
  uint64_t features;      // bits that a reader must know all of
  uint64_t file_bytes;
  uint64_t directory_offset;  // 256
  uint64_t directory_bytes;
  uint64_t directory_checksum;  // XXH3-64
  uint32_t component_count, tensor_count, text_count, string_bytes;
  uint8_t reserved[176];
  uint64_t checksum;  // XXH3-64 of the 248 bytes before it
};
static_assert(sizeof(Header) == 256);

struct Component {  // 64 bytes
  uint32_t name_offset, name_bytes;
  uint32_t first_tensor, tensor_count;
  uint64_t offset, bytes;  // from its first tensor to the end of its last
  uint8_t reserved[32];
};
static_assert(sizeof(Component) == 64);

struct Tensor {  // 128 bytes
  uint32_t name_offset, name_bytes;
  uint32_t component;
  uint16_t encoding;  // WeightEncoding
  uint8_t dtype, rank;
  uint64_t shape[4];  // 1 beyond rank
  uint64_t offset, bytes;
  uint64_t checksum;                     // XXH3-64 of its bytes
  uint32_t block_elements, block_bytes;  // of quantised types; 1 and the element's size
  uint8_t reserved[48];
};
static_assert(sizeof(Tensor) == 128);

struct Text {  // 64 bytes
  uint32_t name_offset, name_bytes;
  uint64_t offset, bytes;
  uint64_t checksum;
  uint8_t reserved[32];
};
static_assert(sizeof(Text) == 64);

struct Trailer {  // 64 bytes at the end
  char magic[8];
  uint64_t file_bytes;
  uint64_t directory_checksum;
  uint8_t reserved[32];
  uint64_t checksum;  // XXH3-64 of the 56 bytes before it
};
static_assert(sizeof(Trailer) == 64);

}  // namespace darkroom::sdw

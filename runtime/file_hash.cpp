#include "runtime/file_hash.h"

#include <fmt/core.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "runtime/mapped_file.h"

namespace darkroom {

namespace {

constexpr size_t kBlock = size_t(16) << 20;

std::string digits(XXH128_hash_t hash) { return fmt::format("{:016x}{:016x}", hash.high64, hash.low64); }

}  // namespace

std::string file_hash(const std::string& path) {
  const MappedFile file(path);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  for (size_t at = 0; at < file.size(); at += kBlock) {
    const size_t n = std::min(kBlock, file.size() - at);
    XXH3_128bits_update(state.get(), file.data() + at, n);
    file.release(file.data() + at, n);
  }
  return digits(XXH3_128bits_digest(state.get()));
}

std::string text_hash(const std::string& text) { return digits(XXH3_128bits(text.data(), text.size())); }

}  // namespace darkroom

#include <simt/report.h>

#include <algorithm>
#include <span>
#include <string_view>

#include <fmt/core.h>

namespace darkroom::simt {

namespace {

std::string place(Site site) {
  std::string_view file = site.file_name();
  for (std::string_view room : {"/kernels/", "/tests/"})
    if (const size_t at = file.rfind(room); at != std::string_view::npos) file.remove_prefix(at + 1);
  return fmt::format("{}:{}", file, site.line());
}

void add(AccessCount& to, uint64_t needed, uint64_t used) {
  ++to.instructions;
  to.needed += needed;
  to.used += used;
}

// Wavefronts of one phase, up to 128 bytes: as many as the bank has different words that has the most.
uint64_t wavefronts(std::span<const uintptr_t> words) {
  std::vector<uintptr_t> distinct(words.begin(), words.end());
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  uint64_t in_bank[32] = {}, most = 0;
  for (uintptr_t word : distinct) most = std::max(most, ++in_bank[word % 32]);
  return most;
}

void count_shared(std::span<const Access* const> lanes) {
  const int bytes = lanes[0]->bytes;
  const size_t lanes_a_phase = bytes <= 4 ? 32 : size_t(128 / bytes);
  uint64_t needed = 0, used = 0;
  for (size_t first = 0; first < lanes.size(); first += lanes_a_phase) {
    std::vector<uintptr_t> words;
    for (size_t l = first; l < std::min(lanes.size(), first + lanes_a_phase); ++l) {
      if (lanes[l] == nullptr) continue;
      const uintptr_t at = reinterpret_cast<uintptr_t>(lanes[l]->address);
      for (int b = 0; b < std::max(bytes, 4); b += 4) words.push_back(at / 4 + uintptr_t(b / 4));
    }
    if (words.empty()) continue;
    ++needed;
    used += wavefronts(words);
  }
  KernelReport& report = reports()[launch.name];
  add(report.shared, needed, used);
  add(report.shared_by_line[place(lanes[0]->site)], needed, used);
}

void count_global(std::span<const Access* const> lanes) {
  std::vector<uintptr_t> addresses, sectors;
  for (const Access* a : lanes) {
    if (a == nullptr) continue;
    const uintptr_t at = reinterpret_cast<uintptr_t>(a->address);
    addresses.push_back(at);
    sectors.push_back(at / 32);
  }
  for (std::vector<uintptr_t>* v : {&addresses, &sectors}) {
    std::sort(v->begin(), v->end());
    v->erase(std::unique(v->begin(), v->end()), v->end());
  }
  const uint64_t needed = (addresses.size() * uint64_t(lanes[0]->bytes) + 31) / 32;
  KernelReport& report = reports()[launch.name];
  add(report.global, needed, sectors.size());
  add(report.global_by_line[place(lanes[0]->site)], needed, sectors.size());
}

}  // namespace

std::map<std::string, KernelReport>& reports() {
  static std::map<std::string, KernelReport> all;
  return all;
}

void count_access(const void* address, int bytes, bool shared, bool write, Site site) {
  current->accesses.push_back({site, address, bytes, shared, write});
}

void count_warp(Warp& warp) {
  size_t longest = 0;
  for (int l = 0; l < kWarp; ++l) longest = std::max(longest, warp.threads[l].accesses.size());
  for (size_t n = 0; n < longest; ++n) {
    const Access* of_lane[kWarp] = {};
    for (int l = 0; l < kWarp; ++l)
      if (n < warp.threads[l].accesses.size()) of_lane[l] = &warp.threads[l].accesses[n];
    // Lanes that went different ways are instructions of their own.
    for (int l = 0; l < kWarp; ++l) {
      if (of_lane[l] == nullptr) continue;
      const Access& one = *of_lane[l];
      std::vector<const Access*> together(kWarp, nullptr);
      for (int k = l; k < kWarp; ++k) {
        const Access* other = of_lane[k];
        if (other == nullptr || other->site.line() != one.site.line() || other->site.column() != one.site.column() ||
            other->bytes != one.bytes || other->shared != one.shared)
          continue;
        together[size_t(k)] = other;
      }
      for (int k = l; k < kWarp; ++k)
        if (together[size_t(k)]) of_lane[k] = nullptr;
      // The first lane stands for the kind; phases count from lane 0.
      std::swap(together[0], together[size_t(l)]);
      if (one.shared)
        count_shared(together);
      else
        count_global(together);
    }
  }
  for (int l = 0; l < kWarp; ++l) warp.threads[l].accesses.clear();
}

void count_rows(const void* const (&rows)[8], Site site) {
  std::vector<uintptr_t> words;
  for (const void* row : rows)
    for (uintptr_t w = 0; w < 4; ++w) words.push_back(reinterpret_cast<uintptr_t>(row) / 4 + w);
  const uint64_t used = wavefronts(words);
  KernelReport& report = reports()[launch.name];
  add(report.shared, 1, used);
  add(report.shared_by_line[place(site)], 1, used);
}

std::string report_text() {
  std::string text;
  for (const auto& [name, r] : reports()) {
    text += fmt::format("{:<40} shared {:>8} wavefronts, {:>8} needed   global {:>8} sectors, {:>8} needed\n", name,
                        r.shared.used, r.shared.needed, r.global.used, r.global.needed);
    for (const auto& [where, c] : r.shared_by_line)
      if (c.used > c.needed)
        text += fmt::format("    {} bank conflicts: {} wavefronts for {}\n", where, c.used, c.needed);
    for (const auto& [where, c] : r.global_by_line)
      if (c.used > c.needed) text += fmt::format("    {} uncoalesced: {} sectors for {}\n", where, c.used, c.needed);
  }
  return text;
}

}  // namespace darkroom::simt

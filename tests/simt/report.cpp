#include <simt/report.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <tuple>

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

using Lanes = std::array<const Access*, kWarp>;  // null: takes no part

void count_shared(const Access& one, const Lanes& lanes) {
  const size_t lanes_a_phase = one.bytes <= 4 ? 32 : size_t(128 / one.bytes);
  uint64_t needed = 0, used = 0;
  for (size_t first = 0; first < lanes.size(); first += lanes_a_phase) {
    std::vector<uintptr_t> words;
    for (size_t l = first; l < first + lanes_a_phase; ++l) {
      if (lanes[l] == nullptr) continue;
      const uintptr_t at = reinterpret_cast<uintptr_t>(lanes[l]->address);
      for (int b = 0; b < std::max(one.bytes, 4); b += 4) words.push_back(at / 4 + uintptr_t(b / 4));
    }
    if (words.empty()) continue;
    ++needed;
    used += wavefronts(words);
  }
  KernelReport& report = reports()[launch.name];
  add(report.shared, needed, used);
  add(report.shared_by_line[place(one.site)], needed, used);
}

void count_global(const Access& one, const Lanes& lanes) {
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
  const uint64_t needed = (addresses.size() * uint64_t(one.bytes) + 31) / 32;
  KernelReport& report = reports()[launch.name];
  add(report.global, needed, sectors.size());
  add(report.global_by_line[fmt::format("{} {} {}", place(one.site), one.write ? "writes" : "reads", one.operand)],
      needed, sectors.size());
}

// What lanes must have in common to do something in one instruction, but for the count of times.
auto kind_of(const Access& a) {
  return std::tuple(a.site.file_name(), a.site.line(), a.site.column(), a.operand, a.bytes);
}

}  // namespace

std::map<std::string, KernelReport>& reports() {
  static std::map<std::string, KernelReport> all;
  return all;
}

void count_access(const char* operand, const void* address, int bytes, bool write, Site site) {
  current->accesses.push_back({site, operand, address, bytes, write});
}

void count_block(size_t shared_bytes) {
  KernelReport& report = reports()[launch.name];
  report.shared_bytes = std::max(report.shared_bytes, shared_bytes);
}

void count_warp(Warp& warp) {
  struct Item {
    const Access* access;
    int lane;
    size_t time;  // how often the lane has been there
  };
  std::vector<Item> items;
  for (int l = 0; l < kWarp; ++l) {
    const size_t begin = items.size();
    for (const Access& a : warp.threads[l].accesses) items.push_back({&a, l, 0});
    std::stable_sort(items.begin() + std::ptrdiff_t(begin), items.end(),
                     [](const Item& a, const Item& b) { return kind_of(*a.access) < kind_of(*b.access); });
    for (size_t i = begin + 1; i < items.size(); ++i)
      if (kind_of(*items[i].access) == kind_of(*items[i - 1].access)) items[i].time = items[i - 1].time + 1;
  }
  const auto instruction = [](const Item& item) { return std::tuple(kind_of(*item.access), item.time); };
  std::sort(items.begin(), items.end(), [&](const Item& a, const Item& b) { return instruction(a) < instruction(b); });
  for (size_t i = 0; i < items.size();) {
    const Access& one = *items[i].access;
    const size_t first = i;
    Lanes lanes{};
    for (; i < items.size() && instruction(items[i]) == instruction(items[first]); ++i)
      lanes[size_t(items[i].lane)] = items[i].access;
    if (one.operand == nullptr)
      count_shared(one, lanes);
    else
      count_global(one, lanes);
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

std::string report_text(const std::string& name, const KernelReport& r) {
  std::string text = fmt::format("{:<40} shared {:>8} wavefronts, {:>8} needed   global {:>8} sectors, {:>8} needed\n",
                                 name, r.shared.used, r.shared.needed, r.global.used, r.global.needed);
  for (const auto& [where, c] : r.shared_by_line)
    if (c.used > c.needed)
      text += fmt::format("    {} bank conflicts: {} wavefronts for {}\n", where, c.used, c.needed);
  for (const auto& [where, c] : r.global_by_line)
    if (c.used > c.needed) text += fmt::format("    {} uncoalesced: {} sectors for {}\n", where, c.used, c.needed);
  return text;
}

std::string report_text() {
  std::string text;
  for (const auto& [name, r] : reports()) text += report_text(name, r);
  return text;
}

}  // namespace darkroom::simt

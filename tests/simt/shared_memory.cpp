// Shared memory of the block that runs, and its shadow.
#include <simt/machine.h>

#include <algorithm>
#include <cstring>

#include <fmt/core.h>

namespace darkroom::simt {

namespace {

constexpr uint16_t kNobody = 0xffff;
constexpr size_t kCellBytes = 2;
constexpr size_t kGap = 128;  // between static arrays, so that one does not run on into the next
constexpr size_t kMemoryBytes = kMaxDynamicShared + kMaxStaticShared + 4096;

// What is known of two bytes.
struct Cell {
  uint32_t write_clock, read_clock[2];
  uint16_t writer, reader[2];
  bool on_its_way;  // of a cp.async of `writer`
};

struct Region {
  const void* key;  // null: dynamic shared memory
  size_t begin, end;
};

struct Memory {
  alignas(1024) std::byte bytes[kMemoryBytes];
  std::vector<Cell> cells{kMemoryBytes / kCellBytes};
  std::vector<Region> regions;
  size_t used = 0;
};
Memory memory;

std::string where(size_t offset) {
  for (const Region& r : memory.regions)
    if (offset >= r.begin && offset < r.end + kGap)
      return fmt::format("{} shared +{}", r.key ? "static" : "dynamic", offset - r.begin);
  return fmt::format("shared {}", offset);
}

// Offset of memory that the thread may touch.
size_t checked(const void* address, int bytes, const char* verb, Site site) {
  const uintptr_t base = reinterpret_cast<uintptr_t>(memory.bytes), at = reinterpret_cast<uintptr_t>(address);
  const size_t offset = at - base;
  for (const Region& r : memory.regions) {
    if (offset < r.begin || offset + size_t(bytes) > r.end) continue;
    if (at % uintptr_t(bytes) != 0)
      fail(site, fmt::format("misaligned: {} {} bytes at {}", verb, bytes, where(offset)));
    return offset;
  }
  fail(site, fmt::format("{} {} bytes out of bounds of shared memory at {} ({} bytes in {} arrays)", verb, bytes,
                         where(offset), shared_bytes(), memory.regions.size()));
}

// Whether what thread `other` did at `clock` of its warp comes before what `t` does now.
bool comes_before(uint16_t other, uint32_t clock, const Thread& t) {
  if (other == uint16_t(t.id)) return true;
  const int warp = other / kWarp;
  const uint32_t known = t.warp->clock[size_t(warp)];
  return warp == t.warp->index ? clock < known : clock <= known;
}

void race(const char* verb, size_t offset, const char* other_verb, uint16_t other, Site site) {
  fail(site,
       fmt::format("race: {} {}, which thread {} {} with no barrier between", verb, where(offset), other, other_verb));
}

void check_write(Cell& c, size_t offset, const Thread& t, const char* verb, Site site) {
  if (c.on_its_way)
    fail(site,
         fmt::format("{} {}, where an asynchronous copy of thread {} is on its way", verb, where(offset), c.writer));
  if (c.writer != kNobody && !comes_before(c.writer, c.write_clock, t)) race(verb, offset, "wrote", c.writer, site);
  for (int i = 0; i < 2; ++i)
    if (c.reader[i] != kNobody && !comes_before(c.reader[i], c.read_clock[i], t))
      race(verb, offset, "read", c.reader[i], site);
  c.writer = uint16_t(t.id);
  c.write_clock = t.warp->clock[size_t(t.warp->index)];
  c.reader[0] = c.reader[1] = kNobody;
}

}  // namespace

void reset_shared(size_t dynamic_bytes) {
  const Cell fresh{0, {0, 0}, kNobody, {kNobody, kNobody}, false};
  const size_t begin = 0, end = dynamic_bytes;
  const size_t dirty = std::max(memory.used, end);
  std::fill_n(memory.cells.begin(), std::min((dirty + kGap) / kCellBytes, memory.cells.size()), fresh);
  memset(memory.bytes, 0xff, dirty);  // NaN in every type: what is read by mistake is seen
  memory.regions.clear();
  memory.regions.push_back({nullptr, begin, end});
  memory.used = end;
}

size_t shared_bytes() {
  size_t total = 0;
  for (const Region& r : memory.regions) total += r.end - r.begin;
  return total;
}

std::byte* dynamic_shared(uint32_t offset, size_t element, Site site) {
  if (offset > launch.dynamic_shared)
    fail(site, fmt::format("dynamic shared memory begins at byte {} of {}", offset, launch.dynamic_shared));
  if (offset % element != 0 && element <= 16)
    fail(site,
         fmt::format("misaligned: dynamic shared memory of elements of {} bytes begins at byte {}", element, offset));
  return memory.bytes + offset;
}

std::byte* static_shared(const void* key, size_t bytes, Site site) {
  for (const Region& r : memory.regions)
    if (r.key == key) return memory.bytes + r.begin;
  const size_t begin = (memory.used + kGap + 127) / 128 * 128;
  size_t total = bytes;
  for (const Region& r : memory.regions)
    if (r.key) total += r.end - r.begin;
  if (total > kMaxStaticShared)
    fail(site, fmt::format("{} bytes of static shared memory; there are {}", total, kMaxStaticShared));
  memory.regions.push_back({key, begin, begin + bytes});
  // Cells beyond those that reset_shared() knew of.
  const Cell fresh{0, {0, 0}, kNobody, {kNobody, kNobody}, false};
  std::fill_n(memory.cells.begin() + std::ptrdiff_t(begin / kCellBytes), (bytes + 1) / kCellBytes, fresh);
  memory.used = begin + bytes;
  return memory.bytes + begin;
}

void shared_read(const void* address, int bytes, Site site) {
  const Thread& t = *current;
  const size_t offset = checked(address, bytes, "reads", site);
  if (counting) count_access(nullptr, address, bytes, false, site);
  const uint32_t now = t.warp->clock[size_t(t.warp->index)];
  for (size_t i = offset / kCellBytes; i < (offset + size_t(bytes) + 1) / kCellBytes; ++i) {
    Cell& c = memory.cells[i];
    if (c.on_its_way)
      fail(site, fmt::format("reads {}, where an asynchronous copy of thread {} has not arrived: wait for it first",
                             where(i * kCellBytes), c.writer));
    if (c.writer == kNobody) fail(site, fmt::format("reads {}, which nobody wrote", where(i * kCellBytes)));
    if (!comes_before(c.writer, c.write_clock, t)) race("reads", i * kCellBytes, "wrote", c.writer, site);
    // Of readers that do not come before this one, the first and the last are kept.
    const int slot = c.reader[0] == kNobody || comes_before(c.reader[0], c.read_clock[0], t) ? 0 : 1;
    c.reader[slot] = uint16_t(t.id);
    c.read_clock[slot] = now;
  }
}

void shared_write(void* address, int bytes, Site site) {
  const size_t offset = checked(address, bytes, "writes", site);
  if (counting) count_access(nullptr, address, bytes, true, site);
  for (size_t i = offset / kCellBytes; i < (offset + size_t(bytes) + 1) / kCellBytes; ++i)
    check_write(memory.cells[i], i * kCellBytes, *current, "writes", site);
}

void async_begin(void* to, const void* from, int bytes, Site site) {
  Thread& t = *current;
  const size_t offset = checked(to, bytes, "copies to", site);
  if (counting) count_access(nullptr, to, bytes, true, site);
  for (size_t i = offset / kCellBytes; i < (offset + size_t(bytes)) / kCellBytes; ++i) {
    check_write(memory.cells[i], i * kCellBytes, t, "copies to", site);
    memory.cells[i].on_its_way = true;
  }
  PendingCopy& copy = t.copies.emplace_back(PendingCopy{static_cast<std::byte*>(to), bytes, t.group, {}});
  if (from) memcpy(copy.data, from, size_t(bytes));
}

void async_commit() { ++current->group; }

void async_wait(int groups) {
  Thread& t = *current;
  const uint32_t now = t.warp->clock[size_t(t.warp->index)];
  size_t arrived = 0;
  for (; arrived < t.copies.size(); ++arrived) {
    const PendingCopy& copy = t.copies[arrived];
    if (copy.group + uint64_t(groups) >= t.group) break;
    memcpy(copy.to, copy.data, size_t(copy.bytes));
    const size_t offset = size_t(copy.to - memory.bytes);
    for (size_t i = offset / kCellBytes; i < (offset + size_t(copy.bytes)) / kCellBytes; ++i) {
      memory.cells[i].on_its_way = false;
      memory.cells[i].write_clock = now;
    }
  }
  t.copies.erase(t.copies.begin(), t.copies.begin() + std::ptrdiff_t(arrived));
}

void async_end(Site site) {
  if (!current->copies.empty())
    fail(site, fmt::format("ends with {} asynchronous copies on their way", current->copies.size()));
}

}  // namespace darkroom::simt

// The SIMT emulator: runs a grid of a CUDA kernel, compiled as C++, on the CPU, one block after another, and holds it to the
// rules that hardware does not enforce.
//
// Each thread of a block is a fibre. A warp's lanes run one after the other up to the next place where they must meet: a
// collective (shuffle, mma, ldmatrix, sync_warp), which the last lane to come carries out for all, or a barrier of the
// block. So a kernel's result does not depend on luck, and neither does what is found:
//
//   bounds, alignment   each Global pointer knows its view, each Shared pointer its block's shared memory
//   what nobody wrote   shared memory is shadowed, two bytes a cell
//   races               happens-before, by a vector clock for each warp (as in FastTrack, per warp rather than per thread): a
//                       barrier joins the clocks of all; sync_warp() orders the lanes of one warp. What a cell remembers is
//                       its last writer and two of its readers. So a race is found though the two never overlapped here.
//   asynchronous copies their data arrives when its thread waits for it, not before; touching it earlier is an error
//   barriers            all threads must come to the same barrier, at the same place in the source
//
// A violation ends the grid: run_grid() throws Violation, whose text names kernel, block, thread, address and source line.
// It also counts how shared and global memory are accessed, see report.h.
// Source: Flanagan, Freund, FastTrack (2009) for the clocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

namespace darkroom::simt {

using Site = std::source_location;

inline constexpr int kWarp = 32;
inline constexpr int kMaxThreads = 1024;
inline constexpr int kMaxWarps = kMaxThreads / kWarp;

class Violation : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Index {
  uint32_t x = 0, y = 0, z = 0;
};

// What a grid is launched with.
struct Launch {
  const char* name;
  Index grid;
  int threads;
  size_t dynamic_shared;
};

// One copy of cp_async on its way.
struct PendingCopy {
  std::byte* to;
  int bytes;
  uint64_t group;
  alignas(16) std::byte data[16];
};

enum class State : uint8_t { ready, in_collective, in_barrier, done };

struct Access {  // for report.h
  Site site;
  const char* operand;  // the name of a Global pointer's view; null: shared memory
  const void* address;
  int bytes;
  bool write;
};

struct Warp;

struct Thread {
  void* stack_pointer = nullptr;
  State state = State::ready;
  int id = 0;  // in the block
  Warp* warp = nullptr;
  Site waiting;                // where it is in a collective or barrier
  const char* operation = "";  // which
  void* argument = nullptr;    // of the collective
  uint64_t group = 0;          // cp_async groups that were committed
  std::vector<PendingCopy> copies;
  std::vector<Access> accesses;  // since the warp last met

  int lane() const { return id % kWarp; }
};

struct Warp {
  int index = 0;
  Thread* threads = nullptr;
  int arrived = 0;
  std::array<uint32_t, kMaxWarps>
      clock{};  // what it knows of every warp's progress; its own is the time of its accesses
};

// The thread that runs now, and the block's place in the grid.
extern Thread* current;
extern Index block_index;
extern Launch launch;

// Runs the kernel's body for every thread of every block, or of some blocks (sample_blocks() in report.h).
void run_grid(const Launch& launch, const std::function<void()>& body);

// "NAME: block (x, y, z) thread t: WHAT [file:line]"
[[noreturn]] void fail(Site site, const std::string& what);

// All lanes of the warp meet. The last one runs `operation` over the arguments of all; then each goes on.
using Collective = void (*)(void* const (&arguments)[kWarp], Warp& warp, Site site);
void meet(const char* name, Collective operation, void* argument, Site site);

void sync_block(Site site);
void sync_warp(Site site);

// --- shared memory (shared_memory.cpp) ---

inline constexpr size_t kMaxDynamicShared = 227 * 1024, kMaxStaticShared = 48 * 1024;

void reset_shared(size_t dynamic_bytes);
size_t shared_bytes();  // of the block that ran last, dynamic and static
std::byte* dynamic_shared(uint32_t offset, size_t element, Site site);
// Memory of a `__shared__` array: one for each `key` of a block.
std::byte* static_shared(const void* key, size_t bytes, Site site);

// Whether [address, address + bytes) may be touched by the thread, else fail(). Marks it as read or written.
void shared_read(const void* address, int bytes, Site site);
void shared_write(void* address, int bytes, Site site);

// An asynchronous copy of up to 16 bytes: marks `to` as on its way.
void async_begin(void* to, const void* from, int bytes, Site site);
void async_commit();
void async_wait(int groups);
// Of a thread that ends.
void async_end(Site site);

// --- global memory ---

// A Global pointer's view: what it may reach.
struct View {
  const char* name = "";
  uintptr_t begin = 0, end = 0;
};
inline void global_check(const View& view, const void* address, int bytes, bool write, Site site);
[[noreturn]] void global_violation(const View& view, const void* address, int bytes, bool write, Site site);

// Whether this block's accesses are counted (report.h), and the count of one; `operand` null: of shared memory.
extern bool counting;
void count_access(const char* operand, const void* address, int bytes, bool write, Site site);

inline void global_check(const View& view, const void* address, int bytes, bool write, Site site) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (at < view.begin || at + uintptr_t(bytes) > view.end || at % uintptr_t(bytes) != 0)
    global_violation(view, address, bytes, write, site);
  if (counting) count_access(view.name, address, bytes, write, site);
}

}  // namespace darkroom::simt

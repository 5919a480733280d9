#include <simt/machine.h>
#include <sys/mman.h>

#include <algorithm>
#include <exception>
#include <string_view>

#include <fmt/core.h>
#include <simt/device.h>
#include <simt/report.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define DARKROOM_SIMT_ASAN 1
#else
#define DARKROOM_SIMT_ASAN 0
#endif

// Saves the callee-saved registers on the stack that runs, its pointer to *rdi, and goes on with the stack rsi.
asm(R"(
.text
.type darkroom_simt_switch, @function
darkroom_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size darkroom_simt_switch, .-darkroom_simt_switch
)");
extern "C" void darkroom_simt_switch(void** save, void* next);

namespace darkroom::simt {

Thread* current = nullptr;
Index block_index;
Launch launch{};
bool counting = false;

namespace {

uint64_t most_blocks = 0;  // of a grid that run; 0: all

// A power of two would put the tops of all stacks in the same sets of the cache.
// AddressSanitizer's frames are larger.
constexpr size_t kStackBytes = (DARKROOM_SIMT_ASAN ? 512 : 64) * 1024 + 9 * 64;

struct Machine {
  std::vector<Thread> threads{size_t(kMaxThreads)};
  std::vector<Warp> warps{size_t(kMaxWarps)};
  std::byte* stacks = nullptr;
  void* scheduler = nullptr;  // its stack pointer while a fibre runs
  const void* scheduler_stack = nullptr;
  size_t scheduler_bytes = 0;
  const std::function<void()>* body = nullptr;
  std::exception_ptr error;

  Machine() {
    void* memory = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("the emulator has no memory for its stacks");
    stacks = static_cast<std::byte*>(memory);
  }
  std::byte* stack_of(const Thread& t) const { return stacks + kStackBytes * size_t(t.id); }
};

Machine& machine() {
  static Machine m;
  return m;
}

std::string place(Site site) {
  std::string_view file = site.file_name();
  for (std::string_view room : {"/kernels/", "/tests/"})
    if (const size_t at = file.rfind(room); at != std::string_view::npos) file.remove_prefix(at + 1);
  return fmt::format("{}:{}", file, site.line());
}

// Goes on with another stack, `bytes` from `stack` on; AddressSanitizer must be told.
void switch_to(void** save, void* next, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t bytes) {
#if DARKROOM_SIMT_ASAN
  void* frames = nullptr;
  __sanitizer_start_switch_fiber(&frames, stack, bytes);
  darkroom_simt_switch(save, next);
  __sanitizer_finish_switch_fiber(frames, nullptr, nullptr);
#else
  darkroom_simt_switch(save, next);
#endif
}

// To the next lane of the warp that can run, else to the scheduler.
void yield() {
  Machine& m = machine();
  Thread& from = *current;
  Thread* lanes = from.warp->threads;
  for (int i = 1; i < kWarp && !m.error; ++i) {
    Thread& next = lanes[(from.lane() + i) % kWarp];
    if (next.state != State::ready) continue;
    current = &next;
    switch_to(&from.stack_pointer, next.stack_pointer, m.stack_of(next), kStackBytes);
    return;
  }
  switch_to(&from.stack_pointer, m.scheduler, m.scheduler_stack, m.scheduler_bytes);
}

void fibre_main() {
  Machine& m = machine();
#if DARKROOM_SIMT_ASAN
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (current->id == 0) m.scheduler_stack = stack, m.scheduler_bytes = bytes;  // who starts the first thread
#endif
  try {
    (*m.body)();
    async_end(Site::current());
  } catch (...) {
    m.error = std::current_exception();
  }
  current->state = State::done;
  yield();
  std::terminate();  // nobody continues a thread that is done
}

void start(Thread& t, int id) {
  Machine& m = machine();
  t.state = State::ready;
  t.id = id;
  t.warp = &m.warps[size_t(id / kWarp)];
  t.group = 0;
  t.copies.clear();
  t.accesses.clear();
#if DARKROOM_SIMT_ASAN
  __asan_unpoison_memory_region(m.stack_of(t), kStackBytes);  // a thread that failed left its frames
#endif
  // What the switch pops: six registers, the address to go to; then rsp ≡ 8 mod 16, as after a call.
  auto top = reinterpret_cast<uintptr_t>(m.stack_of(t) + kStackBytes) & ~uintptr_t(15);
  void** sp = reinterpret_cast<void**>(top) - 2;
  sp[0] = reinterpret_cast<void*>(&fibre_main);
  sp[1] = nullptr;
  sp -= 6;
  for (int i = 0; i < 6; ++i) sp[i] = nullptr;
  t.stack_pointer = sp;
}

bool same_place(const Thread& a, const Thread& b) {
  return a.operation == b.operation && a.waiting.line() == b.waiting.line() &&
         a.waiting.file_name() == b.waiting.file_name();
}

std::string what_it_does(const Thread& t) {
  if (t.state == State::done) return fmt::format("thread {} has ended", t.id);
  return fmt::format("thread {} is in {} [{}]", t.id, t.operation, place(t.waiting));
}

// Nobody can run: everyone is at the same barrier, or else it never opens.
void open_barrier() {
  Machine& m = machine();
  const int count = launch.threads;
  Thread* waiting = nullptr;
  for (int i = 0; i < count && waiting == nullptr; ++i)
    if (m.threads[size_t(i)].state == State::in_collective) waiting = &m.threads[size_t(i)];
  for (int i = 0; i < count && waiting == nullptr; ++i)
    if (m.threads[size_t(i)].state == State::in_barrier) waiting = &m.threads[size_t(i)];
  const bool collective = waiting->state == State::in_collective;
  const int first = collective ? waiting->warp->index * kWarp : 0, last = collective ? first + kWarp : count;
  for (int i = first; i < last; ++i) {
    const Thread& other = m.threads[size_t(i)];
    if (other.state == waiting->state && same_place(other, *waiting)) continue;
    current = waiting;
    fail(waiting->waiting, fmt::format("divergent {}: waits in {} while {}", collective ? "collective" : "barrier",
                                       waiting->operation, what_it_does(other)));
  }

  const int warps = count / kWarp;
  std::array<uint32_t, kMaxWarps> joined{};
  for (int w = 0; w < warps; ++w)
    for (int v = 0; v < warps; ++v)
      joined[size_t(v)] = std::max(joined[size_t(v)], m.warps[size_t(w)].clock[size_t(v)]);
  for (int w = 0; w < warps; ++w) {
    m.warps[size_t(w)].clock = joined;
    ++m.warps[size_t(w)].clock[size_t(w)];
  }
  for (int i = 0; i < count; ++i) m.threads[size_t(i)].state = State::ready;
}

void run_block() {
  Machine& m = machine();
  reset_shared(launch.dynamic_shared);
  const int warps = launch.threads / kWarp;
  for (int w = 0; w < warps; ++w) {
    Warp& warp = m.warps[size_t(w)];
    warp.index = w;
    warp.threads = &m.threads[size_t(w * kWarp)];
    warp.arrived = 0;
    warp.clock.fill(0);
    warp.clock[size_t(w)] = 1;
  }
  for (int i = 0; i < launch.threads; ++i) start(m.threads[size_t(i)], i);
  m.error = nullptr;
  for (;;) {
    bool all_done = true;
    for (int w = 0; w < warps; ++w) {
      Warp& warp = m.warps[size_t(w)];
      for (int l = 0; l < kWarp; ++l) {
        Thread& t = warp.threads[l];
        if (t.state == State::ready) {
          current = &t;
          switch_to(&m.scheduler, t.stack_pointer, m.stack_of(t), kStackBytes);
          if (m.error) std::rethrow_exception(m.error);
        }
        all_done &= t.state == State::done;
      }
      if (counting) count_warp(warp);
    }
    if (all_done) return;
    open_barrier();
  }
}

}  // namespace

void fail(Site site, const std::string& what) {
  throw Violation(fmt::format("{}: block ({}, {}, {}) thread {}: {} [{}]", launch.name, block_index.x, block_index.y,
                              block_index.z, current->id, what, place(site)));
}

void meet(const char* name, Collective operation, void* argument, Site site) {
  Thread& t = *current;
  Warp& warp = *t.warp;
  t.operation = name;
  t.argument = argument;
  t.waiting = site;
  if (++warp.arrived < kWarp) {
    t.state = State::in_collective;
    yield();
    return;
  }
  void* arguments[kWarp];
  for (int l = 0; l < kWarp; ++l) {
    Thread& other = warp.threads[l];
    if (!same_place(other, t)) fail(site, fmt::format("divergent collective: {} while {}", name, what_it_does(other)));
    arguments[l] = other.argument;
  }
  if (counting) count_warp(warp);
  operation(arguments, warp, site);
  current = &t;
  warp.arrived = 0;
  for (int l = 0; l < kWarp; ++l) warp.threads[l].state = State::ready;
}

void sync_block(Site site) {
  current->operation = "sync_block";
  current->waiting = site;
  current->state = State::in_barrier;
  yield();
}

void sync_warp(Site site) {
  meet(
      "sync_warp", [](void* const(&)[kWarp], Warp& warp, Site) { ++warp.clock[size_t(warp.index)]; }, nullptr, site);
}

void global_violation(const View& view, const void* address, int bytes, bool write, Site site) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  const int64_t offset = int64_t(at - view.begin);
  const char* verb = write ? "writes" : "reads";
  if (view.begin == view.end) fail(site, fmt::format("{} {}, which the call does not have", verb, view.name));
  if (at < view.begin || at + uintptr_t(bytes) > view.end)
    fail(site, fmt::format("{} {} bytes out of bounds at {}{:+} ({}), which has {} bytes", verb, bytes, view.name,
                           offset, address, view.end - view.begin));
  fail(site, fmt::format("misaligned: {} {} bytes at {}{:+} ({})", verb, bytes, view.name, offset, address));
}

void run_grid(const Launch& next, const std::function<void()>& body) {
  launch = next;
  current = &machine().threads[0];
  current->id = 0;
  block_index = {};
  if (launch.threads <= 0 || launch.threads > kMaxThreads || launch.threads % kWarp != 0)
    fail(Site::current(),
         fmt::format("launched with {} threads; wants a multiple of {} up to {}", launch.threads, kWarp, kMaxThreads));
  if (launch.dynamic_shared > kMaxDynamicShared)
    fail(Site::current(), fmt::format("launched with {} bytes of dynamic shared memory; there are {}",
                                      launch.dynamic_shared, kMaxDynamicShared));
  const uint64_t blocks = uint64_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  if (blocks == 0 || launch.grid.y > 65535 || launch.grid.z > 65535)
    fail(Site::current(),
         fmt::format("launched with a grid of {} x {} x {}", launch.grid.x, launch.grid.y, launch.grid.z));
  machine().body = &body;
  // Last block first: a block that reads what another one writes finds what was there before.
  const uint64_t run = most_blocks == 0 ? blocks : std::min(blocks, most_blocks);
  for (uint64_t i = run; i-- > 0;) {
    const uint64_t b = run == 1 ? 0 : i * (blocks - 1) / (run - 1);
    block_index = {uint32_t(b % launch.grid.x), uint32_t(b / launch.grid.x % launch.grid.y),
                   uint32_t(b / launch.grid.x / launch.grid.y)};
    counting = most_blocks > 0 || b == 0;
    run_block();
    if (counting) count_block(shared_bytes());
  }
  counting = false;
}

void sample_blocks(uint64_t most) { most_blocks = most; }

}  // namespace darkroom::simt

namespace darkroom::cuda {

uint32_t ballot(bool predicate, Site site) {
  struct Argument {
    bool predicate;
    uint32_t result;
  } argument{predicate, 0};
  simt::meet(
      "ballot",
      [](void* const(&arguments)[kWarp], simt::Warp&, Site) {
        uint32_t bits = 0;
        for (int l = 0; l < kWarp; ++l) bits |= uint32_t(static_cast<Argument*>(arguments[l])->predicate) << l;
        for (void* a : arguments) static_cast<Argument*>(a)->result = bits;
      },
      &argument, site);
  return argument.result;
}

}  // namespace darkroom::cuda

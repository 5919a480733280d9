#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

#include "kernels/core/error.h"
#include "runtime/backend.h"

namespace darkroom {

namespace {

// Every thread of the pool walks the same list of steps and meets the others after each.
class CpuRecording : public Recording {
 public:
  CpuRecording(ThreadPool& pool, std::span<const BoundPlan> plans) : pool_(pool) {
    for (const BoundPlan& bound : plans)
      for (size_t s = 0; s < bound.calls.size(); ++s) {
        const Node& node = bound.plan->graph.nodes()[s];
        steps_.push_back({bound.plan->steps[s].selection.kernel, bound.calls[s], node.name, op_def(node.kind()).name});
      }
  }

  bool run(const std::atomic<bool>* cancel, Trace* trace) override {
    // Member 0 looks at the flag and writes what it saw before the barrier; all act on it after. Two places in turn,
    // so that the next look does not overwrite what a slower member has still to read.
    bool stop[2] = {false, false};
    bool finished = true;
    pool_.run([&](const Team& team) {
      const bool traces = trace != nullptr && team.index == 0;
      Trace::Clock::time_point begin{};
      for (size_t s = 0; s < steps_.size(); ++s) {
        const Step& step = steps_[s];
        if (traces) begin = Trace::Clock::now();
        step.kernel->launch(step.call, team);
        if (team.index == 0) stop[s % 2] = cancel != nullptr && cancel->load(std::memory_order_relaxed);
        team.sync();
        if (traces) trace->add(step.name, step.op, begin, Trace::Clock::now());
        if (!stop[s % 2] || s + 1 == steps_.size()) continue;
        if (team.index == 0) finished = false;
        return;
      }
    });
    return finished;
  }

 private:
  struct Step {
    const KernelDef* kernel;
    KernelCall call;
    std::string_view name, op;
  };
  ThreadPool& pool_;
  std::vector<Step> steps_;
};

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(int threads) : pool_(threads) {}

  Device device() const override { return Device::cpu; }
  Isa isa() const override { return active_isa(); }
  std::string description() const override {
    return fmt::format("{}, {} threads, {}", cpu_name(), pool_.size(), isa_name(active_isa()));
  }
  int team() const override { return pool_.size(); }
  std::optional<size_t> free_memory() const override { return std::nullopt; }

  void* allocate(size_t bytes, std::string_view what) override {
    // Kernels walk weights and work memory in many streams at once: pages of 2 MiB spare them most of the TLB's misses. Only
    // those that lie wholly inside become large, so that nothing is wasted.
    constexpr size_t kPage = 4096, kHugePage = 2 << 20;
    const bool huge = bytes >= 2 * kHugePage;
    void* p = nullptr;
    if (posix_memalign(&p, huge ? kHugePage : kPage, (bytes + kPage - 1) / kPage * kPage) != 0)
      throw resource_error("no memory for {} ({} MiB)", what, bytes >> 20);
    if (huge) madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // a wish: it may be refused
    return p;
  }
  void release(void* memory) noexcept override { std::free(memory); }
  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }

  void pack(const KernelDef& kernel, const KernelCall& call, std::span<const TensorView> parts, void* packed) override {
    pool_.run([&](const Team& team) { kernel.pack(call, parts, packed, team); });
  }
  std::unique_ptr<Recording> record(std::span<const BoundPlan> plans) override {
    return std::make_unique<CpuRecording>(pool_, plans);
  }
  void run(const KernelDef& kernel, const KernelCall& call) override {
    pool_.run([&](const Team& team) { kernel.launch(call, team); });
  }

 private:
  ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(int threads) { return std::make_unique<CpuBackend>(threads); }

}  // namespace darkroom

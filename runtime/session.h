// What all plans of one model share (threads, packed weights, one arena), and the way from a graph to something that runs.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/executor.h"
#include "runtime/fusion.h"
#include "runtime/tuning.h"

namespace darkroom {

struct SessionOptions {
  Device device = Device::cpu;
  std::optional<Isa> plan_for;  // in place of a device: plans alone are made, for this; nothing can be compiled
  int threads = 1;              // of the CPU; with a GPU they pack weights
  KernelOverrides kernels;
  bool exact = false;                    // direct sums only: no Winograd
  std::shared_ptr<const Tuning> tuning;  // measured choices of kernels, or null
  DisabledPasses disabled_passes;
  Trace* trace = nullptr;  // records every step of every program
  bool check = false;      // the first run of everything goes step by step against `ref`: see check.h
};

// A graph that has been fused, planned and given its weights.
class Program {
 public:
  Program(Plan plan, std::vector<PassReport> passes, Backend& backend, Arena& arena, WeightStore& weights, Trace* trace,
          PlanCheck* check)
      : plan_(std::move(plan)),
        passes_(std::move(passes)),
        executable_(plan_, backend, arena, weights),
        runner_(backend, {&executable_}, trace, check) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const Plan& plan() const { return plan_; }
  const std::vector<PassReport>& passes() const { return passes_; }
  Executable& executable() { return executable_; }

  // Inputs and outputs by memory of the device, or by copies of host memory: see Executable.
  void bind(std::string_view name, void* data) { executable_.bind(name, data); }
  void* memory(std::string_view name) { return executable_.memory(name); }
  template <typename T>
  void write(std::string_view name, const std::vector<T>& host) {
    executable_.write(name, std::as_bytes(std::span(host)));
  }
  template <typename T>
  void read(std::string_view name, std::vector<T>& host) {
    executable_.read(name, std::as_writable_bytes(std::span(host)));
  }

  // False where it was cancelled.
  bool run(const std::atomic<bool>* cancel = nullptr) { return runner_.run(cancel); }

 private:
  Plan plan_;
  std::vector<PassReport> passes_;
  Executable executable_;
  Runner runner_;
};

// Bytes of the device.
struct MemoryNeed {
  size_t weights = 0, activations = 0, outside = 0;  // outside: inputs and outputs
  size_t total() const { return weights + activations + outside; }
};

class Session {
 public:
  // The source must outlive the session.
  Session(const WeightSource& source, SessionOptions options)
      : options_(std::move(options)),
        backend_(options_.plan_for ? make_planning_backend(*options_.plan_for)
                                   : make_backend(options_.device, options_.threads)),
        weights_(source, *backend_),
        arena_(*backend_),
        check_(options_.check ? std::make_unique<PlanCheck>(source, options_.threads) : nullptr) {}

  const SessionOptions& options() const { return options_; }
  SelectOptions select_options() const {
    return {
        .kernels = options_.kernels, .isa = backend_->isa(), .exact = options_.exact, .tuning = options_.tuning.get()};
  }
  Backend& backend() { return *backend_; }
  const Backend& backend() const { return *backend_; }

  // Fuses. To be called before hoist() where parts of the graph are to run on their own.
  std::vector<PassReport> fuse(Graph& graph) const {
    return run_fusion(graph, options_.disabled_passes, select_options());
  }
  // Plans and packs weights. `passes` is what fuse() reported.
  std::unique_ptr<Program> compile(Graph graph, std::vector<PassReport> passes);
  // Both.
  std::unique_ptr<Program> compile(Graph graph);
  // The plan alone: what compile() would run.
  Plan plan(Graph graph) const;
  // Several programs as one, in this order: on a GPU one launch. All must outlive it.
  std::unique_ptr<Runner> sequence(std::span<Program* const> programs);

  // What compiling these plans, and giving them inputs and outputs, would allocate on top of what is there.
  MemoryNeed memory_need(std::span<const Plan* const> plans) const;

  size_t arena_bytes() const { return arena_.bytes(); }
  size_t weight_bytes() const { return weights_.bytes(); }
  // Null where it was not asked for.
  const PlanCheck* check() const { return check_.get(); }
  // Nodes that a reference kernel runs although the op has another: "unet: down_blocks.0 ... (conv2d)".
  const std::set<std::string>& reference_steps() const { return reference_steps_; }

 private:
  SessionOptions options_;
  std::unique_ptr<Backend> backend_;
  WeightStore weights_;
  Arena arena_;
  std::unique_ptr<PlanCheck> check_;
  std::set<std::string> reference_steps_;
};

}  // namespace darkroom

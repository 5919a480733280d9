// What all plans of one model share (threads, packed weights, one arena), and the way from a graph to something that runs.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/executor.h"
#include "runtime/fusion.h"

namespace darkroom {

struct SessionOptions {
  Device device = Device::cpu;
  int threads = 1;  // of the CPU
  KernelOverrides kernels;
  bool exact = false;  // direct sums only: no Winograd
  DisabledPasses disabled_passes;
  Trace* trace = nullptr;  // records every step of every program
};

// A graph that has been fused, planned and given its weights.
class Program {
 public:
  Program(Plan plan, std::vector<PassReport> passes, Backend& backend, Arena& arena, WeightStore& weights, Trace* trace)
      : plan_(std::move(plan)),
        passes_(std::move(passes)),
        executable_(plan_, backend, arena, weights),
        trace_(trace) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  const Plan& plan() const { return plan_; }
  const std::vector<PassReport>& passes() const { return passes_; }
  void bind(std::string_view name, void* data) { executable_.bind(name, data); }
  // False where it was cancelled.
  bool run(const std::atomic<bool>* cancel = nullptr) { return executable_.run(cancel, trace_); }

 private:
  Plan plan_;
  std::vector<PassReport> passes_;
  Executable executable_;
  Trace* trace_;
};

class Session {
 public:
  // The source must outlive the session.
  Session(const WeightSource& source, SessionOptions options)
      : options_(std::move(options)),
        backend_(make_backend(options_.device, options_.threads)),
        weights_(source, *backend_),
        arena_(*backend_) {}

  const SessionOptions& options() const { return options_; }
  SelectOptions select_options() const { return {.kernels = options_.kernels, .exact = options_.exact}; }
  Backend& backend() { return *backend_; }

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

  size_t arena_bytes() const { return arena_.bytes(); }
  size_t weight_bytes() const { return weights_.bytes(); }
  // Nodes that a reference kernel runs although the CPU could do better: "unet: down_blocks.0 ... (conv2d)".
  const std::set<std::string>& reference_steps() const { return reference_steps_; }

 private:
  SessionOptions options_;
  std::unique_ptr<Backend> backend_;
  WeightStore weights_;
  Arena arena_;
  std::set<std::string> reference_steps_;
};

}  // namespace darkroom

// A layer with memory, ready to be run by one implementation, and its result held against `ref`.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "bench/kernels/layers.h"
#include "runtime/thread_pool.h"

namespace darkroom::bench {

struct FreeMemory {
  void operator()(void* p) const { std::free(p); }
};
using Memory = std::unique_ptr<void, FreeMemory>;

// 64-byte aligned, with room to read a vector past the end. Throws resource_error.
Memory allocate(size_t bytes);

// Memory for every operand, filled with numbers in −1 … 1; the output is NaN.
class Operands {
 public:
  explicit Operands(const Layer& layer);

  // Packs and gets scratch memory for that implementation.
  void prepare(const KernelDef& kernel, ThreadPool& pool);
  void launch(const KernelDef& kernel, ThreadPool& pool) const {
    by(kernel, pool, [&](const Team& team) { kernel.launch(call_, team); });
  }
  const KernelCall& call() const { return call_; }
  // The packed slots, as they are stored.
  const std::vector<TensorView>& weights() const { return weights_; }

 private:
  // Ours by the pool; a library's outside of it, for its threads want the cores that members would stay on.
  template <typename Job>
  static void by(const KernelDef& kernel, ThreadPool& pool, Job job) {
    const bool ours = find_kernel(kernel.op, kernel.variant) == &kernel;
    ours ? pool.run(job) : job(Team{});
  }
  void* take(size_t bytes);

  KernelCall call_;
  std::vector<TensorView> weights_;
  std::vector<Memory> memory_;
};

// Empty where the output that lies in `operands` is that of `ref`, else what is wrong with it. A part of the output is
// computed again: some rows of a product or of queries, some pixels of a convolution at two corners; the whole of anything
// else. Enlarging convolutions are not looked at here.
std::string compare_with_ref(const Operands& operands, ThreadPool& pool);

}  // namespace darkroom::bench

// A GPU as bench_kernels uses it: memory for a layer, and the time that a launch takes on the device.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/kernels/machine.h"
#include "bench/kernels/operands.h"
#include "runtime/backend.h"

namespace darkroom::bench {

// Cold: the L2 cache holds nothing of the layer, as where a network's next kernel begins. Warm: all that fits of it, from the
// same launch just before.
enum class CacheState { cold, warm };

class Gpu {
 public:
  virtual ~Gpu() = default;

  virtual Backend& backend() = 0;
  virtual Stream stream() const = 0;
  virtual void synchronize() = 0;
  // Seconds from event to event around one run of what `enqueue` puts on the stream. Before it the device overwrites a buffer of
  // twice its L2, which also keeps it busy until the host has queued everything: no launch is waited for.
  virtual double seconds(const std::function<void(const Stream&)>& enqueue, CacheState cache) = 0;

  // Bytes read and written a second by a copy within the device's memory, 1 GiB (less where that is not free).
  virtual double copy_bandwidth() = 0;
};

// Throws resource_error where this build or this machine has no GPU. `threads` of the host pack weights.
std::unique_ptr<Gpu> open_gpu(int threads);

// A layer's operands in the device's memory, copied from the host's.
class GpuOperands {
 public:
  // Both must outlive it.
  GpuOperands(Gpu& gpu, Operands& host);

  // Packs and gets scratch memory for that implementation. Libraries' pack() may read the host's bias.
  void prepare(const KernelDef& kernel);
  void enqueue(const KernelDef& kernel, const Stream& stream) const { kernel.enqueue(call_, stream); }
  // Runs once over a poisoned output, and copies it to the host's operands.
  void run_and_download(const KernelDef& kernel);

 private:
  void* take(size_t bytes, const char* what);

  Gpu& gpu_;
  Operands& host_;
  KernelCall call_;
  std::vector<DeviceMemory> memory_;
};

}  // namespace darkroom::bench

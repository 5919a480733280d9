// A device that runs plans: its memory, and the way its kernels are launched. The CPU is one; CUDA is the other, or its
// stand-in no_cuda.cpp, which says that this build has none.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plan.h"
#include "runtime/thread_pool.h"
#include "runtime/trace.h"

namespace darkroom {

enum class Device : uint8_t { cpu, cuda };

const char* device_name(Device device);

// Which device, and why that one, for people: "no NVIDIA driver is loaded".
struct DeviceChoice {
  Device device = Device::cpu;
  std::string why;
};
// "cpu", "cuda", or "auto": CUDA where this build and this machine have it. Throws usage_error on anything else.
DeviceChoice choose_device(std::string_view name);

// A plan whose operands have their memory: calls[i] belongs to step i.
struct BoundPlan {
  const Plan* plan;
  std::span<const KernelCall> calls;
};

// Bound plans, to be run one after the other, often. On CUDA the whole is one captured graph and run() is one launch.
class Recording {
 public:
  virtual ~Recording() = default;
  // Runs all of it; allocates nothing. False where `cancel` became true: the CPU looks between two steps, CUDA before the
  // launch. On CUDA it returns when the run *before* this one has ended, so that the device never waits for the host;
  // Backend::download() waits for all that was started. With a trace each step's time goes there, and CUDA launches step by
  // step.
  virtual bool run(const std::atomic<bool>* cancel, Trace* trace) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual Device device() const = 0;
  // What kernels may use of it: plans for this backend are made for this.
  virtual Isa isa() const = 0;
  // For people: "AMD EPYC, 2 threads, avx512_bf16".
  virtual std::string description() const = 0;
  // The size of the team that runs a kernel: threads of a CPU, 1 where the device has its own grid.
  virtual int team() const = 0;
  // Bytes that may still be allocated; none where the device does not know (the CPU's memory is the system's matter).
  virtual std::optional<size_t> free_memory() const = 0;

  // Memory of the device, aligned to kArenaAlignment at least. Throws resource_error, saying what it was for.
  virtual void* allocate(size_t bytes, std::string_view what) = 0;
  virtual void release(void* memory) noexcept = 0;
  // Both in the order of all that was started; the host's memory may be reused when they return.
  virtual void upload(void* to, const void* from_host, size_t bytes) = 0;
  virtual void download(void* to_host, const void* from, size_t bytes) = 0;

  // Packs a weight into memory of the device. `parts` lie on the host.
  virtual void pack(const KernelDef& kernel, const KernelCall& call, std::span<const TensorView> parts,
                    void* packed) = 0;

  // The plans must outlive the recording; the calls are copied, their memory must stay where it is.
  virtual std::unique_ptr<Recording> record(std::span<const BoundPlan> plans) = 0;
  // One kernel outside of any plan; has ended when it returns.
  virtual void run(const KernelDef& kernel, const KernelCall& call) = 0;
};

std::unique_ptr<Backend> make_cpu_backend(int threads);
// `threads` of the host pack weights. Throws resource_error where this build or this machine has no CUDA.
std::unique_ptr<Backend> make_cuda_backend(int threads);
std::unique_ptr<Backend> make_backend(Device device, int threads);
// No device at all: plans can be made for `isa`, nothing can be allocated or run. Throws resource_error where this build has no
// kernels for it.
std::unique_ptr<Backend> make_planning_backend(Isa isa);
// Why there is no CUDA here; none where there is.
std::optional<std::string> why_no_cuda();

// Memory of a device that goes away with its owner.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(Backend& backend, size_t bytes, std::string_view what)
      : backend_(&backend), data_(backend.allocate(bytes, what)) {}
  ~DeviceMemory() {
    if (data_) backend_->release(data_);
  }
  DeviceMemory(DeviceMemory&& o) noexcept : backend_(o.backend_), data_(std::exchange(o.data_, nullptr)) {}
  DeviceMemory& operator=(DeviceMemory&& o) noexcept {
    std::swap(backend_, o.backend_);
    std::swap(data_, o.data_);
    return *this;
  }
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  Backend* backend_ = nullptr;
  void* data_ = nullptr;
};

}  // namespace darkroom

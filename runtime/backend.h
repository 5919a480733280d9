// A device that runs plans: its memory, and the way its kernels are launched. The CPU is one; CUDA is the other, or its
// stand-in no_cuda.cpp, which says that this build has none.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "runtime/plan.h"
#include "runtime/thread_pool.h"
#include "runtime/trace.h"

namespace darkroom {

enum class Device : uint8_t { cpu, cuda };

// "cpu" or "cuda". Throws usage_error on anything else.
Device parse_device(std::string_view name);

class Backend {
 public:
  virtual ~Backend() = default;

  virtual Device device() const = 0;
  // For people: "AMD EPYC, 2 threads, avx512_bf16".
  virtual std::string description() const = 0;
  // The size of the team that runs a kernel: threads of a CPU, 1 where the device has its own grid.
  virtual int team() const = 0;

  // Memory of the device, aligned to 64 bytes at least. Throws resource_error, saying what it was for.
  virtual void* allocate(size_t bytes, std::string_view what) = 0;
  virtual void release(void* memory) noexcept = 0;
  virtual void upload(void* to, const void* from_host, size_t bytes) = 0;
  virtual void download(void* to_host, const void* from, size_t bytes) = 0;

  // Packs a weight into memory of the device. `parts` lie on the host.
  virtual void pack(const KernelDef& kernel, const KernelCall& call, std::span<const TensorView> parts,
                    void* packed) = 0;

  // Runs a plan's steps in order; calls[i] belongs to step i and has all of its memory. Allocates nothing.
  // False where `cancel` became true between two steps.
  virtual bool run(const Plan& plan, std::span<const KernelCall> calls, const std::atomic<bool>* cancel,
                   Trace* trace) = 0;
  // One kernel outside of any plan.
  virtual void run(const KernelDef& kernel, const KernelCall& call) = 0;
};

std::unique_ptr<Backend> make_cpu_backend(int threads);
// Throws resource_error where this build or this machine has no CUDA.
std::unique_ptr<Backend> make_cuda_backend();
std::unique_ptr<Backend> make_backend(Device device, int threads);

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

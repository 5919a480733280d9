// The CUDA backend, on the runtime API alone: cudart is linked statically and finds the driver when it is first asked, so that
// a program with this backend runs on machines without a GPU. Tests compile this file against a model of that API
// (tests/simt/include/cuda_runtime_api.h), where launches run in the emulator.
//
// One stream in the order of the host's calls. A recording is a captured graph: a run of it is one launch.
#include <cuda_runtime_api.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "kernels/core/error.h"
#include "kernels/core/launches.h"
#include "runtime/backend.h"

namespace darkroom {

namespace {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // so that the next call does not see it again
  throw internal_error("CUDA: {}: {}", what, cudaGetErrorString(error));
}

// What the kernels of this build that run on the device are compiled for.
Isa isa_of(const cudaDeviceProp& device) {
  const int capability = device.major * 10 + device.minor;
  for (const Isa isa : {Isa::sm120, Isa::sm100, Isa::sm90, Isa::sm89, Isa::sm86, Isa::sm80})
    if (capability >= int(isa)) return isa;
  return Isa::baseline;
}

// Device 0 of those that CUDA_VISIBLE_DEVICES shows; or why there is none.
std::optional<std::string> find_device(cudaDeviceProp* device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return "no NVIDIA driver is loaded";
    return fmt::format("the NVIDIA driver knows CUDA {}.{}, this build wants {}.{}", driver / 1000, driver % 1000 / 10,
                       runtime / 1000, runtime % 1000 / 10);
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) return "the NVIDIA driver shows no GPU";
  if (error != cudaSuccess) return fmt::format("the NVIDIA driver fails: {}", cudaGetErrorString(error));
  check(cudaGetDeviceProperties(device, 0), "properties of device 0");
  if (device->major < 8)
    return fmt::format("{} has compute capability {}.{}, 8.0 is the least", device->name, device->major, device->minor);
  return std::nullopt;
}

class Event {
 public:
  explicit Event(unsigned flags) { check(cudaEventCreateWithFlags(&event_, flags), "an event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

struct RecordedStep {
  const KernelDef* kernel;
  KernelCall call;
  std::string_view name, op;
};

class CudaRecording : public Recording {
 public:
  CudaRecording(cudaStream_t stream, std::span<const BoundPlan> plans) : stream_(stream) {
    for (const BoundPlan& bound : plans)
      for (size_t s = 0; s < bound.calls.size(); ++s) {
        const Node& node = bound.plan->graph.nodes()[s];
        steps_.push_back({bound.plan->steps[s].selection.kernel, bound.calls[s], node.name, op_def(node.kind()).name});
      }
    for (const RecordedStep& step : steps_) cuda::load_kernels(*step.kernel, step.call);
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "begin of a capture");
    cudaGraph_t graph = nullptr;
    try {
      for (const RecordedStep& step : steps_) step.kernel->enqueue(step.call, {stream_});
    } catch (...) {
      if (cudaStreamEndCapture(stream_, &graph) == cudaSuccess) cudaGraphDestroy(graph);
      throw;
    }
    check(cudaStreamEndCapture(stream_, &graph), "end of a capture");
    const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
    cudaGraphDestroy(graph);
    check(error, "making a graph of a capture");
  }
  ~CudaRecording() override {
    cudaStreamSynchronize(stream_);
    cudaGraphExecDestroy(graph_);
  }

  bool run(const std::atomic<bool>* cancel, Trace* trace) override {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) return false;
    if (trace != nullptr) {
      run_traced(*trace);
      return true;
    }
    check(cudaGraphLaunch(graph_, stream_), "launch of a graph");
    check(cudaEventRecord(ended_[runs_ % 2].get(), stream_), "an event");
    // The device has this run before it; the host waits for the one before, so that it is never more than one ahead.
    if (runs_++ > 0) check(cudaEventSynchronize(ended_[runs_ % 2].get()), "the run before");
    return true;
  }

 private:
  void run_traced(Trace& trace) {
    while (marks_.size() < steps_.size() + 1) marks_.push_back(std::make_unique<Event>(cudaEventDefault));
    check(cudaStreamSynchronize(stream_), "waiting");
    const Trace::Clock::time_point begin = Trace::Clock::now();
    check(cudaEventRecord(marks_[0]->get(), stream_), "an event");
    for (size_t s = 0; s < steps_.size(); ++s) {
      steps_[s].kernel->enqueue(steps_[s].call, {stream_});
      check(cudaEventRecord(marks_[s + 1]->get(), stream_), "an event");
    }
    check(cudaStreamSynchronize(stream_), "waiting");
    const auto at = [&](size_t mark) {
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, marks_[0]->get(), marks_[mark]->get()), "an event's time");
      return begin + std::chrono::duration_cast<Trace::Clock::duration>(
                         std::chrono::duration<double, std::milli>(milliseconds));
    };
    for (size_t s = 0; s < steps_.size(); ++s) trace.add(steps_[s].name, steps_[s].op, at(s), at(s + 1));
  }

  cudaStream_t stream_;
  std::vector<RecordedStep> steps_;
  cudaGraphExec_t graph_ = nullptr;
  std::array<Event, 2> ended_{Event(cudaEventDisableTiming), Event(cudaEventDisableTiming)};
  std::vector<std::unique_ptr<Event>> marks_;  // of a traced run: before each step, and at the end
  size_t runs_ = 0;
};

class CudaBackend : public Backend {
 public:
  CudaBackend(const cudaDeviceProp& device, int threads) : device_(device), pool_(threads) {
    check(cudaSetDevice(0), "device 0");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
  }
  ~CudaBackend() override {
    cudaStreamSynchronize(stream_);
    cudaStreamDestroy(stream_);
  }

  Device device() const override { return Device::cuda; }
  Isa isa() const override { return isa_of(device_); }
  std::string description() const override {
    return fmt::format("{}, {} SMs, compute capability {}.{}, {} MiB", device_.name, device_.multiProcessorCount,
                       device_.major, device_.minor, device_.totalGlobalMem >> 20);
  }
  int team() const override { return 1; }
  std::optional<size_t> free_memory() const override {
    constexpr size_t kForTheDriver = size_t(64) << 20;  // graphs, code, local memory of kernels
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "free memory");
    return free > kForTheDriver ? free - kForTheDriver : 0;
  }

  void* allocate(size_t bytes, std::string_view what) override {
    void* p = nullptr;
    const cudaError_t error = cudaMalloc(&p, std::max<size_t>(bytes, 1));
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw resource_error("no memory for {} ({} MiB; {} MiB are free on {})", what, bytes >> 20, *free_memory() >> 20,
                           device_.name);
    }
    check(error, "memory");
    return p;
  }
  void release(void* memory) noexcept override { cudaFree(memory); }  // waits for what runs
  void upload(void* to, const void* from, size_t bytes) override {
    // The host's memory is not pinned, so it has been read when the call returns.
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copying to the device");
  }
  void download(void* to, const void* from, size_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the device");
    check(cudaStreamSynchronize(stream_), "waiting for the device");
  }

  void pack(const KernelDef& kernel, const KernelCall& call, std::span<const TensorView> parts, void* packed) override {
    const size_t bytes = kernel.packed_bytes(call);
    if (bytes > staging_bytes_) {
      staging_.reset();
      staging_.reset(static_cast<std::byte*>(
          std::aligned_alloc(kArenaAlignment, (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment)));
      if (!staging_) throw resource_error("no memory for packing a weight ({} MiB)", bytes >> 20);
      staging_bytes_ = bytes;
    }
    pool_.run([&](const Team& team) { kernel.pack(call, parts, staging_.get(), team); });
    upload(packed, staging_.get(), bytes);
  }

  std::unique_ptr<Recording> record(std::span<const BoundPlan> plans) override {
    return std::make_unique<CudaRecording>(stream_, plans);
  }
  void run(const KernelDef& kernel, const KernelCall& call) override {
    kernel.enqueue(call, {stream_});
    check(cudaStreamSynchronize(stream_), "waiting for a kernel");
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  cudaDeviceProp device_;
  ThreadPool pool_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<std::byte, Free> staging_;  // a packed weight on its way
  size_t staging_bytes_ = 0;
};

}  // namespace

std::optional<std::string> why_no_cuda() {
  cudaDeviceProp device;
  return find_device(&device);
}

std::unique_ptr<Backend> make_cuda_backend(int threads) {
  cudaDeviceProp device;
  if (const std::optional<std::string> why = find_device(&device))
    throw resource_error("--device cuda: {}; use --device cpu", *why);
  return std::make_unique<CudaBackend>(device, threads);
}

}  // namespace darkroom

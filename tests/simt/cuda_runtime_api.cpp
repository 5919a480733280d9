#include <cuda_runtime_api.h>
#include <simt/device_memory.h>
#include <simt/submit.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <vector>

using Work = std::vector<std::function<void()>>;

struct EmulatedStream {
  bool capturing = false;
  bool broken = false;  // something was done that a capture does not allow
  Work captured;
};
struct EmulatedGraph {
  Work work;
};
struct EmulatedGraphExec {
  Work work;
};
struct EmulatedEvent {
  bool recorded = false, timed = true;
  std::chrono::steady_clock::time_point at;
};

namespace {

constexpr size_t kAlignment = 256;
constexpr int kPattern = 0xff;  // NaN as f32, f16 and bf16: what is read before it is written shows

size_t memory_size = size_t(4) << 30;
std::map<uintptr_t, size_t> blocks;  // by address
EmulatedStream* captured_stream = nullptr;
std::set<const void*> loaded;  // kernels
darkroom::simt::DeviceCounters counters;

// Whether [p, p + bytes) lies in one block of the device.
bool is_device_memory(const void* p, size_t bytes) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(p);
  auto block = blocks.upper_bound(at);
  if (block == blocks.begin()) return false;
  --block;
  return at - block->first <= block->second && bytes <= block->second - (at - block->first);
}

// What no captured stream of this thread allows.
bool breaks_capture() {
  if (captured_stream) captured_stream->broken = true;
  return captured_stream != nullptr;
}

}  // namespace

namespace darkroom::simt {

void set_device_memory(size_t bytes) { memory_size = bytes; }
DeviceCounters device_counters() { return counters; }

void load(const void* kernel) {
  if (loaded.insert(kernel).second) breaks_capture();
}
void unload_kernels() { loaded.clear(); }

void submit(void* handle, const void* kernel, std::function<void()> work) {
  auto* stream = static_cast<EmulatedStream*>(handle);
  load(kernel);
  if (stream && stream->capturing) {
    stream->captured.push_back(std::move(work));
    return;
  }
  ++counters.launches;
  work();
}

}  // namespace darkroom::simt

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = memory_size > 0 ? 1 : 0;
  return memory_size > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }

// The card that kernels are planned for: an H100's shape.
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (device != 0) return cudaErrorInvalidValue;
  *p = {};
  std::strcpy(p->name, "emulated GPU");
  p->totalGlobalMem = memory_size;
  p->major = 9;
  p->minor = 0;
  p->multiProcessorCount = 132;
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = memory_size;
  *free = memory_size > counters.allocated ? memory_size - counters.allocated : 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = nullptr;
  if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  if (bytes > memory_size || counters.allocated > memory_size - bytes) return cudaErrorMemoryAllocation;
  void* p = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (!p) return cudaErrorMemoryAllocation;
  std::memset(p, kPattern, bytes);
  blocks[reinterpret_cast<uintptr_t>(p)] = bytes;
  counters.allocated += bytes;
  ++counters.allocations;
  *memory = p;
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (!memory) return cudaSuccess;
  if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  const auto block = blocks.find(reinterpret_cast<uintptr_t>(memory));
  if (block == blocks.end()) return cudaErrorInvalidValue;
  counters.allocated -= block->second;
  blocks.erase(block);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (!stream) return cudaErrorInvalidResourceHandle;
  const bool to_device = kind == cudaMemcpyHostToDevice;
  if (!is_device_memory(to_device ? to : from, bytes)) return cudaErrorInvalidValue;
  // A copy of memory that is not pinned may not be captured.
  if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  if (bytes > 0) std::memcpy(to, from, bytes);
  ++counters.copies;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new EmulatedStream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (!stream) return cudaErrorInvalidResourceHandle;
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return breaks_capture() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (!stream || stream->capturing || captured_stream) return cudaErrorStreamCaptureUnsupported;
  stream->capturing = true;
  stream->broken = false;
  stream->captured.clear();
  captured_stream = stream;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!stream || !stream->capturing) return cudaErrorStreamCaptureUnsupported;
  stream->capturing = false;
  captured_stream = nullptr;
  if (stream->broken) return cudaErrorStreamCaptureUnsupported;
  *graph = new EmulatedGraph{std::move(stream->captured)};
  stream->captured.clear();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (!graph) return cudaErrorInvalidValue;
  *exec = new EmulatedGraphExec{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (!exec || !stream) return cudaErrorInvalidValue;
  if (breaks_capture()) return cudaErrorStreamCaptureUnsupported;
  ++counters.graph_launches;
  for (const auto& work : exec->work) work();
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new EmulatedEvent;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->recorded = true;
  event->at = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return event->recorded ? cudaSuccess : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->timed || !end->timed || !begin->recorded || !end->recorded) return cudaErrorInvalidResourceHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(end->at - begin->at).count();
  return cudaSuccess;
}

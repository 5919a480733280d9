#include "bench/kernels/gpu.h"

#include "kernels/core/error.h"

#ifdef DARKROOM_CUDA
#include <cuda_runtime_api.h>
#endif

namespace darkroom::bench {

#ifdef DARKROOM_CUDA

namespace {

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) throw internal_error("CUDA: {}: {}", what, cudaGetErrorString(error));
}

class CudaGpu : public Gpu {
 public:
  explicit CudaGpu(int threads) : backend_(make_cuda_backend(threads)) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    check(cudaEventCreate(&begin_), "an event");
    check(cudaEventCreate(&end_), "an event");
    int l2 = 0;
    check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0), "the size of L2");
    // Never less than a few hundred microseconds of writing, so that the host is ahead.
    flush_bytes_ = std::max<size_t>(2 * size_t(l2), size_t(256) << 20);
    flush_ = DeviceMemory(*backend_, flush_bytes_, "emptying L2");
  }
  ~CudaGpu() override {
    cudaStreamSynchronize(stream_);
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }

  Backend& backend() override { return *backend_; }
  Stream stream() const override { return {stream_}; }
  void synchronize() override { check(cudaDeviceSynchronize(), "waiting for the device"); }

  double seconds(const std::function<void(const Stream&)>& enqueue, CacheState cache) override {
    check(cudaMemsetAsync(flush_.data(), 0, flush_bytes_, stream_), "emptying L2");
    if (cache == CacheState::warm) enqueue(stream());
    check(cudaEventRecord(begin_, stream_), "an event");
    enqueue(stream());
    check(cudaEventRecord(end_, stream_), "an event");
    check(cudaEventSynchronize(end_), "waiting for a kernel");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "an event's time");
    return double(milliseconds) * 1e-3;
  }

  double copy_bandwidth() override {
    const size_t bytes = std::min<size_t>(size_t(1) << 30, backend_->free_memory().value_or(0) / 4);
    const DeviceMemory from(*backend_, bytes, "measuring bandwidth"), to(*backend_, bytes, "measuring bandwidth");
    double least = 0;
    for (int attempt = 0; attempt < 5; ++attempt) {
      const double took = seconds(
          [&](const Stream&) {
            check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream_), "a copy");
          },
          CacheState::warm);
      if (least == 0 || took < least) least = took;
    }
    return 2 * double(bytes) / least;
  }

 private:
  std::unique_ptr<Backend> backend_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  size_t flush_bytes_ = 0;
  DeviceMemory flush_;
};

}  // namespace

std::unique_ptr<Gpu> open_gpu(int threads) { return std::make_unique<CudaGpu>(threads); }

#else

std::unique_ptr<Gpu> open_gpu(int threads) {
  make_cuda_backend(threads);  // throws: this build has none
  throw internal_error("a CUDA backend without CUDA");
}

#endif

void* GpuOperands::take(size_t bytes, const char* what) {
  memory_.emplace_back(gpu_.backend(), bytes, what);
  return memory_.back().data();
}

GpuOperands::GpuOperands(Gpu& gpu, Operands& host) : gpu_(gpu), host_(host), call_(host.call()) {
  const OpDef& op = op_def(op_kind(*call_.attrs));
  for (int slot = 0; slot < op.inputs; ++slot) {
    TensorView& v = call_.in[slot];
    if (!v.present() || op.role(slot) == SlotRole::packed) continue;
    const size_t bytes = size_t(v.extent()) * dtype_size(v.dtype);
    void* device = take(bytes, "an operand");
    gpu_.backend().upload(device, v.data, bytes);
    v.data = device;
  }
  call_.out.data = take(size_t(call_.out.extent()) * dtype_size(call_.out.dtype), "the output");
  gpu_.synchronize();
}

void GpuOperands::prepare(const KernelDef& kernel) {
  if (kernel.scratch_bytes) call_.scratch = take(kernel.scratch_bytes(call_, 1), "scratch");
  if (!kernel.pack) return;
  void* packed = take(kernel.packed_bytes(call_), "a packed weight");
  gpu_.backend().pack(kernel, host_.call(), host_.weights(), packed);
  call_.packed = packed;
  gpu_.synchronize();
}

void GpuOperands::run_and_download(const KernelDef& kernel) {
  const TensorView& out = host_.call().out;
  const size_t bytes = size_t(out.extent()) * dtype_size(out.dtype);
  gpu_.backend().upload(call_.out.data, out.data, bytes);  // poisoned
  gpu_.synchronize();
  enqueue(kernel, gpu_.stream());
  gpu_.synchronize();
  gpu_.backend().download(out.data, call_.out.data, bytes);
}

}  // namespace darkroom::bench

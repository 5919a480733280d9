// Calls of real size for kernels of which a few blocks run (simt::sample_blocks): memory of zeros that costs nothing until it is touched.
#pragma once

#include <simt/report.h>
#include <sys/mman.h>

#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom::testing {

struct SparseOperand {
  int slot;
  Shape shape;
  DType dtype;
  int64_t step = 0;  // elements from row to row; 0: dense
};

class SparseCall {
 public:
  SparseCall(const OpAttrs& attrs, const std::vector<SparseOperand>& in, DType out) : attrs_(attrs) {
    call.attrs = &attrs_;
    for (const SparseOperand& o : in) call.in[o.slot] = view(o.shape, o.dtype, o.step);
    call.out = view(infer_shape(attrs_, call.in), out, 0);
  }
  ~SparseCall() {
    for (const auto& [memory, bytes] : blocks_) munmap(memory, bytes);
  }
  SparseCall(const SparseCall&) = delete;
  SparseCall& operator=(const SparseCall&) = delete;

  // The kernel is to leave moments of what it stores.
  void want_moments(const KernelDef& kernel) {
    const Shape& out = call.out.shape;
    call.moments = view({out[0], kernel.moments_slabs(call), 3, out.channels()}, DType::f32, 0);
  }

  const KernelDef& kernel(std::string_view variant) const { return *find_kernel(op_kind(attrs_), variant); }

  // Nullptr, or why the kernel will not; weights and scratch are zeros as well.
  const char* run(const KernelDef& kernel) {
    if (const char* reason = kernel.reject(call)) return reason;
    if (kernel.scratch_bytes) call.scratch = zeros(kernel.scratch_bytes(call, 1));
    if (kernel.packed_bytes) call.packed = zeros(kernel.packed_bytes(call));
    kernel.enqueue(call, Stream{});
    return nullptr;
  }

  KernelCall call;

 private:
  void* zeros(size_t bytes) {  // from the beginning of a page, as cudaMalloc's from that of a sector
    const size_t most = bytes + 1;
    void* memory = mmap(nullptr, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    blocks_.emplace_back(memory, most);
    return memory;
  }
  TensorView view(const Shape& shape, DType dtype, int64_t step) {
    TensorView v = TensorView::dense(nullptr, dtype, shape);
    if (step > 0) {
      int64_t stride = step;
      for (int i = shape.rank() - 2; i >= 0; stride *= shape[i--]) v.stride[size_t(i)] = stride;
    }
    v.data = zeros(size_t(v.extent()) * dtype_size(dtype));
    return v;
  }

  OpAttrs attrs_;
  std::vector<std::pair<void*, size_t>> blocks_;
};

}  // namespace darkroom::testing

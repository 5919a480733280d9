// cuDNN's graphs by its C interface: an operation graph, the best plan of its heuristic, and the run of it.
// Source: NVIDIA, cuDNN 9 Graph API, "Backend descriptor types".
#pragma once

#include <cudnn.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/core/tensor_view.h"

namespace darkroom::bench {

// A failure of cuDNN: this graph is not one that it runs, or the device fails.
struct CudnnError {
  cudnnStatus_t status;
};

class Descriptor {
 public:
  explicit Descriptor(cudnnBackendDescriptorType_t type);
  ~Descriptor() { cudnnBackendDestroyDescriptor(descriptor_); }
  Descriptor(Descriptor&& o) noexcept : descriptor_(std::exchange(o.descriptor_, nullptr)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  Descriptor& set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t count,
                  const void* values);
  Descriptor& set(cudnnBackendAttributeName_t name, int64_t value) { return set(name, CUDNN_TYPE_INT64, 1, &value); }
  Descriptor& set(cudnnBackendAttributeName_t name, std::initializer_list<int64_t> values) {
    return set(name, CUDNN_TYPE_INT64, int64_t(values.size()), values.begin());
  }
  Descriptor& set(cudnnBackendAttributeName_t name, const Descriptor& value) {
    const cudnnBackendDescriptor_t d = value.get();
    return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &d);
  }
  Descriptor& finalize();
  cudnnBackendDescriptor_t get() const { return descriptor_; }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

enum class TensorKind {
  memory,
  between,
  scalar
};  // between: of two operations, never written; scalar: f32 on the host

// A tensor of that unique id; dims and strides outermost first.
Descriptor tensor(int64_t id, DType type, std::initializer_list<int64_t> dims, std::initializer_list<int64_t> strides,
                  TensorKind kind = TensorKind::memory);

class CudnnPlan {
 public:
  // The first plan of heuristic A that can be made. Throws CudnnError where there is none.
  CudnnPlan(cudnnHandle_t handle, const std::vector<const Descriptor*>& operations);
  size_t workspace_bytes() const { return workspace_bytes_; }
  void run(cudnnHandle_t handle, const std::vector<int64_t>& ids, const std::vector<void*>& pointers, void* workspace);

 private:
  std::unique_ptr<Descriptor> graph_, plan_;
  size_t workspace_bytes_ = 0;
};

}  // namespace darkroom::bench

// Stands in for the CUDA backend in a build without it.
#include "kernels/core/error.h"
#include "runtime/backend.h"

namespace darkroom {

std::unique_ptr<Backend> make_cuda_backend() {
  throw resource_error("--device cuda: this build has no CUDA; use --device cpu");
}

}  // namespace darkroom

// Stands in for the CUDA backend in a build without it.
#include "kernels/core/error.h"
#include "runtime/backend.h"

namespace darkroom {

std::optional<std::string> why_no_cuda() { return "this build has no CUDA"; }

std::unique_ptr<Backend> make_cuda_backend(int) {
  throw resource_error("--device cuda: {}; use --device cpu", *why_no_cuda());
}

}  // namespace darkroom

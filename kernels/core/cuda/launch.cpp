#include <cuda_runtime_api.h>

#include "kernels/core/error.h"

namespace darkroom::cuda {

void check_launch(const char* name, cudaError_t error) {
  if (error != cudaSuccess)
    throw internal_error("{}: the driver refuses the launch: {}", name, cudaGetErrorString(error));
}

}  // namespace darkroom::cuda

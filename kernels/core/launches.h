// What a kernel would launch for a call, without a device: for models of its time, and for tables of what it takes of a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom::cuda {

struct Launch {
  std::string_view name;  // as traces and the emulator call it
  uint32_t grid[3] = {1, 1, 1};
  int threads = 0;            // of a block
  size_t dynamic_shared = 0;  // bytes of a block
  int64_t blocks() const { return int64_t(grid[0]) * grid[1] * grid[2]; }
};

// The grids that kernel.enqueue(call) appends to a stream, in order. The call needs no memory: its pointers are not followed.
std::vector<Launch> launches_of(const KernelDef& kernel, const KernelCall& call);

// For launch_grid(): true where launches_of() asks, which then has noted it; nothing is to be launched.
bool note_launch(const Launch& launch);

}  // namespace darkroom::cuda

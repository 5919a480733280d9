// What a kernel would launch for a call, without a device: for models of its time, and for tables of what it takes of a GPU. And how to
// have it on the device before it is launched.
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

// Brings what kernel.enqueue(call) would launch onto the device, and launches nothing. CUDA does so at a kernel's first launch if need
// be, by allocating and waiting; so before a capture, which forbids both, it is done by this.
void load_kernels(const KernelDef& kernel, const KernelCall& call);

// For launch_grid(): true where launches_of() asks, which then has noted it; nothing is to be launched.
bool note_launch(const Launch& launch);
// For launch_grid(): whether load_kernels() asks.
bool loads_only();

}  // namespace darkroom::cuda

// The emulated device's memory, for tests.
#pragma once

#include <cstddef>
#include <cstdint>

namespace darkroom::simt {

// How much memory the device has: 0 means no device at all. Affects what is allocated from now on.
void set_device_memory(size_t bytes);

struct DeviceCounters {
  size_t allocated = 0;      // bytes now
  uint64_t allocations = 0;  // cudaMalloc calls so far
  uint64_t launches = 0;     // grids put on a stream by themselves, outside of graphs
  uint64_t graph_launches = 0;
  uint64_t copies = 0;
};
DeviceCounters device_counters();

// From now on no kernel is loaded, as in a new process.
void unload_kernels();

}  // namespace darkroom::simt

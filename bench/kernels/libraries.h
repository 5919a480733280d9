// Other libraries' products and convolutions as entries of the kernel table, for comparison: they exist here alone.
// They keep to KernelDef's contract but for two things: they bring threads of their own and are called by one thread, a team of itself;
// and they hold what they prepared until the program ends.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom::bench {

struct Library {
  std::string name;
  std::string version;  // with what it chose for this CPU: "3.13.2, Intel AVX2"; empty where it cannot be used
  std::string missing;  // why not
  std::vector<const KernelDef*> kernels;
};

// Every library of the CPU's, usable or not. Loaded by the first call; from then on they use `threads` threads.
std::span<const Library> libraries(int threads);
// NVIDIA's, the same for a GPU that is there. Their kernels have enqueue() and keep to the stream.
std::span<const Library> gpu_libraries();

// One file each.
Library load_onednn(int threads);
Library load_openblas(int threads);
Library load_blis(int threads);
Library load_cublaslt();
Library load_cudnn();

}  // namespace darkroom::bench

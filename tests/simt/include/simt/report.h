// How a kernel's warps access memory: bank conflicts of shared memory, sectors of global memory. Counted for each kernel in
// the first block of each of its grids.
#pragma once

#include <simt/machine.h>

#include <map>
#include <string>

namespace darkroom::simt {

struct AccessCount {
  uint64_t instructions = 0;  // of a warp
  uint64_t needed = 0;        // wavefronts of 128 bytes, or sectors of 32, that the bytes would fill
  uint64_t used = 0;          // that it takes
};
struct KernelReport {
  AccessCount shared, global;
  std::map<std::string, AccessCount> shared_by_line, global_by_line;  // "kernels/gemm/sm80_mma.cu:120"
};

// By the kernel's name, of all that ran in this process.
std::map<std::string, KernelReport>& reports();
// For people: a line for each kernel, and one for each place with conflicts or sectors that are not full.
std::string report_text();

// What the lanes of a warp did since they last met is taken apart into instructions: the n-th access of each lane, where
// they are at the same place in the source. Called by the machine.
void count_warp(Warp& warp);
// Eight rows of 16 bytes, as ldmatrix reads them.
void count_rows(const void* const (&rows)[8], Site site);

}  // namespace darkroom::simt

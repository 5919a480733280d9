// How a kernel's warps access memory: bank conflicts of shared memory, sectors of global memory. Counted for each kernel in
// the first block of each of its grids, or in a few blocks which then are all that run.
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
  // By the place in the source, "kernels/gemm/sm80_mma.cu:120"; of global memory with what is done there: "… reads weight".
  std::map<std::string, AccessCount> shared_by_line, global_by_line;
  size_t shared_bytes = 0;  // of a block, dynamic and static: the most
};

// By the kernel's name, of all that ran in this process.
std::map<std::string, KernelReport>& reports();
// For people: a line for each kernel, and one for each place with conflicts or sectors that are not full.
std::string report_text();
std::string report_text(const std::string& name, const KernelReport& report);  // of one

// From now on at most that many blocks of a grid run, the first, the last and some between, and all of them are counted: for
// layers of full size, whose results nobody wants. 0: all run, the first is counted.
void sample_blocks(uint64_t most);

// What the lanes of a warp did since they last met is taken apart into instructions: what each did for the n-th time at one
// place in the source, with one operand. Called by the machine, as is the other.
void count_warp(Warp& warp);
void count_block(size_t shared_bytes);
// Eight rows of 16 bytes, as ldmatrix reads them.
void count_rows(const void* const (&rows)[8], Site site);

}  // namespace darkroom::simt

// The tests of the kernel table, with the emulator for a GPU: CUDA kernels instead of the CPU's.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include <simt/report.h>

#include "tests/support/kernel_call.h"

namespace {

std::vector<const darkroom::KernelDef*> cuda_kernels_of(darkroom::OpKind op) {
  std::vector<const darkroom::KernelDef*> kernels;
  for (const darkroom::KernelDef* kernel : darkroom::cuda_kernels())
    if (kernel->op == op) kernels.push_back(kernel);
  return kernels;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  darkroom::testing::kernels_under_test = cuda_kernels_of;
  darkroom::testing::all_may_refuse = true;
  const int result = RUN_ALL_TESTS();
  // How each kernel's warps reached memory.
  if (std::getenv("DARKROOM_SIMT_REPORT")) std::fputs(darkroom::simt::report_text().c_str(), stdout);
  return result;
}

// The tests of the kernel table on the GPU that is here: CUDA kernels instead of the CPU's, with the device's memory.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include "runtime/backend.h"
#include "tests/support/kernel_call.h"

namespace {

std::vector<const darkroom::KernelDef*> cuda_kernels_of(darkroom::OpKind op) {
  std::vector<const darkroom::KernelDef*> kernels;
  for (const darkroom::KernelDef* kernel : darkroom::cuda_kernels())
    if (kernel->op == op && runs_on(kernel->isa, darkroom::testing::device_under_test->isa()))
      kernels.push_back(kernel);
  return kernels;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const std::optional<std::string> why = darkroom::why_no_cuda(); why && !testing::GTEST_FLAG(list_tests)) {
    fmt::print("no GPU to test: {}\n", *why);  // ctest knows this line and counts the test as skipped
    return 4;
  }
  const std::unique_ptr<darkroom::Backend> device =
      testing::GTEST_FLAG(list_tests) ? nullptr : darkroom::make_cuda_backend(darkroom::default_threads());
  darkroom::testing::device_under_test = device.get();
  darkroom::testing::kernels_under_test = cuda_kernels_of;
  darkroom::testing::all_may_refuse = true;
  return RUN_ALL_TESTS();
}

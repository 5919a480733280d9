// The tests of the kernel table (tests/kernels) on the AVX-512 kernels as emulation.h lets any CPU run them.
#include <gtest/gtest.h>

#include "tests/support/kernel_call.h"

namespace darkroom {

namespace emulated_kernels {
#define DARKROOM_KERNEL(op, variant, source) extern const KernelDef op##_##variant;
#include "emulated_kernels.inc"
#undef DARKROOM_KERNEL
}  // namespace emulated_kernels

namespace testing {
namespace {

const KernelDef* const kEmulated[] = {
#define DARKROOM_KERNEL(op, variant, source) &emulated_kernels::op##_##variant,
#include "emulated_kernels.inc"
#undef DARKROOM_KERNEL
};

std::vector<const KernelDef*> emulated(OpKind op) {
  std::vector<const KernelDef*> kernels;
  for (const KernelDef* kernel : kEmulated)
    if (kernel->op == op) kernels.push_back(kernel);
  return kernels;
}

// A kernel that every call passes by would count as tested.
class EveryKernelRan : public ::testing::Environment {
  void TearDown() override {
    if (::testing::GTEST_FLAG(filter) != "*") return;
    for (const KernelDef* kernel : kEmulated)
      EXPECT_TRUE(was_held(*kernel)) << op_def(kernel->op).name << ":" << kernel->variant;
  }
};

}  // namespace
}  // namespace testing
}  // namespace darkroom

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  darkroom::testing::kernels_under_test = darkroom::testing::emulated;
  darkroom::testing::all_may_refuse = true;
  ::testing::AddGlobalTestEnvironment(new darkroom::testing::EveryKernelRan);
  return RUN_ALL_TESTS();
}

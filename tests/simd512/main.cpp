// The tests of the kernel table (tests/kernels) on the AVX-512 kernels as emulation.h lets any CPU run them.
#include <gtest/gtest.h>

#include <set>

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

std::set<OpKind> ops_asked_for;

std::vector<const KernelDef*> emulated(OpKind op) {
  ops_asked_for.insert(op);
  std::vector<const KernelDef*> kernels;
  for (const KernelDef* kernel : kEmulated)
    if (kernel->op == op) kernels.push_back(kernel);
  return kernels;
}

// A kernel whose op no test asks for would count as tested.
class EveryOpWasAskedFor : public ::testing::Environment {
  void TearDown() override {
    if (::testing::GTEST_FLAG(filter) != "*") return;
    for (const KernelDef* kernel : kEmulated)
      EXPECT_TRUE(ops_asked_for.contains(kernel->op)) << op_def(kernel->op).name << ":" << kernel->variant;
  }
};

}  // namespace
}  // namespace testing
}  // namespace darkroom

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  darkroom::testing::kernels_under_test = darkroom::testing::emulated;
  ::testing::AddGlobalTestEnvironment(new darkroom::testing::EveryOpWasAskedFor);
  return RUN_ALL_TESTS();
}

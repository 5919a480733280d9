// Attention on tensor cores: every head dim that it takes, bf16 and f16, tails of queries and keys, causal and cross, one key
// that takes nearly all of the weight.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

// One rounding to f16 is 2^-11/√3 of a number in the mean square; twice that, as for every kernel.
const double kF16Limit = 2 * 0x1p-11 / std::sqrt(3.0) + kFloor;

CallMemory attention_call(int64_t n, int64_t m, int heads, int64_t d, bool causal, DType type, float spread) {
  AttentionAttrs attrs;
  attrs.heads = heads;
  attrs.scale = 1.0f / std::sqrt(float(d));
  attrs.causal = causal;
  CallMemory call(attrs);
  const int64_t width = heads * d;
  call.fill(AttentionAttrs::kQ, {2, n, width}, type, spread, 0.0f, 2 * width);  // slices of packed projections
  call.fill(AttentionAttrs::kK, {2, m, width}, type, 1.0f, 0.0f, 2 * width);
  call.fill(AttentionAttrs::kV, {2, m, width}, type, 1.0f, 0.0f, 2 * width);
  call.set_output(type, 8);
  return call;
}

TEST(FlashAttention, HeadDimsTailsAndMasks) {
  struct Case {
    int64_t n, m;
    int heads;
    int64_t d;
    bool causal;
  };
  for (const Case& c :
       {Case{130, 200, 2, 40, false}, Case{64, 77, 1, 40, false}, Case{77, 77, 2, 64, true}, Case{129, 1, 1, 64, false},
        Case{1, 65, 2, 80, false}, Case{70, 70, 1, 80, true}, Case{64, 64, 2, 160, false}, Case{33, 33, 1, 160, true},
        Case{40, 70, 1, 512, false}, Case{32, 64, 2, 512, false}, Case{1, 1, 1, 512, false}}) {
    for (const DType type : {DType::bf16, DType::f16})
      for (const float spread : {1.0f, 12.0f}) {
        SCOPED_TRACE(fmt::format("N {} M {} NH {} D {} causal {} {} spread {}", c.n, c.m, c.heads, c.d, c.causal,
                                 dtype_name(type), spread));
        const CallMemory call = attention_call(c.n, c.m, c.heads, c.d, c.causal, type, spread);
        const KernelDef& kernel = *find_kernel(OpKind::attention, c.d == 512 ? "sm80_flash_wide" : "sm80_flash");
        ASSERT_FALSE(call.rejected_by(kernel));
        if (type == DType::bf16) {
          expect_kernels_agree(call, OpKind::attention);
          EXPECT_TRUE(was_held(kernel));
        } else {
          const std::vector<float> expected = call.run(*find_kernel(OpKind::attention, "ref"), 1, DType::f64);
          EXPECT_LE(relative_l2(call.run(kernel, 1), expected), kF16Limit);
        }
      }
  }
}

}  // namespace
}  // namespace darkroom::testing

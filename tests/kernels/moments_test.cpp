// Moments (KernelCall::moments): as convolutions leave them, and as norms take them. On CPUs and GPUs.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

// What is stored lies far from zero: its moments must not suffer (they are held wherever a kernel leaves them).
TEST(ConvolutionMoments, LargeMeans) {
  for (const Shape& x : {Shape{2, 37, 45, 32}, Shape{2, 9, 6, 40}, Shape{2, 20, 70, 32}})
    for (const DType activation : {DType::f32, DType::bf16})
      for (const bool subpixel : {false, true}) {
        SCOPED_TRACE(fmt::format("{} {} {}", x.to_string(), dtype_name(activation), subpixel ? "enlarged" : ""));
        Conv2dAttrs attrs;
        if (subpixel) attrs.upsample_height = 2 * x[1], attrs.upsample_width = 2 * x[2];
        CallMemory call(attrs);
        call.fill(Conv2dAttrs::kX, x, activation);
        call.fill(Conv2dAttrs::kWeight, {50, x[3], 3, 3}, DType::f16, 1.0f / std::sqrt(9.0f * float(x[3])));
        call.fill(Conv2dAttrs::kBias, {50}, DType::f32, 100.0f, 500.0f);
        call.set_output(activation);
        expect_kernels_agree(call, OpKind::conv2d);
      }
}

// Few slabs of many pixels, or one for each; a second source that has fewer than the first.
TEST(GroupNorm, ByMoments) {
  for (const auto& [mean, slabs, slabs2] :
       {std::tuple(0.0f, 17, 1), std::tuple(300.0f, 17, 1), std::tuple(300.0f, 1240, 40)})
    for (const DType type : {DType::f32, DType::bf16})
      for (const bool second : {false, true})
        for (const OpKind op : {OpKind::group_norm_stats, OpKind::group_norm, OpKind::group_norm_silu}) {
          SCOPED_TRACE(
              fmt::format("mean {} {} slabs {} {} {}", mean, slabs, dtype_name(type), second, op_def(op).name));
          GroupNormAttrs attrs;
          attrs.groups = 6;
          CallMemory call(op == OpKind::group_norm         ? OpAttrs(attrs)
                          : op == OpKind::group_norm_stats ? OpAttrs(GroupNormStatsAttrs{attrs})
                                                           : OpAttrs(GroupNormSiluAttrs{attrs}));
          const int64_t channels = second ? 78 : 42;
          call.fill(GroupNormAttrs::kX, {2, 40, 31, 42}, type, 1.0f, mean, 3);
          call.fill_moments(GroupNormAttrs::kMoments, GroupNormAttrs::kX, slabs);
          if (second) {
            call.fill(GroupNormAttrs::kX2, {2, 40, 31, 36}, type, 2.0f, mean);
            call.fill_moments(GroupNormAttrs::kMoments2, GroupNormAttrs::kX2, slabs2);
          }
          call.fill(GroupNormAttrs::kGamma, {channels}, DType::f32, 0.2f, 1.0f);
          call.fill(GroupNormAttrs::kBeta, {channels}, DType::f32);
          call.set_output(op == OpKind::group_norm_stats ? DType::f32 : type);
          expect_kernels_agree(call, op);
        }
}

}  // namespace
}  // namespace darkroom::testing

// What convolutions in blocks (Winograd's, AMX's direct ones) and norms inside of convolutions add to the cases of gemm_shaped_test: blocks of tiles and of
// channels, borders that cut a tile, epilogues, and the zeros outside of a normalised picture.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

struct Case {
  const char* what;
  int64_t h, w, c, second, n;
  bool upsampled, residual;
  Activation out;
  DType weight;
};
using enum Activation;
constexpr Case kCases[] = {
    {"one tile", 4, 4, 8, 0, 16, false, false, none, DType::f32},
    {"less than a tile", 1, 3, 5, 0, 7, false, true, relu, DType::f16},
    {"borders cut tiles, two sources that straddle a strip", 9, 14, 20, 30, 33, false, true, silu, DType::f32},
    {"several blocks of tiles", 71, 69, 8, 0, 16, false, true, relu, DType::bf16},
    {"few tiles, several blocks of channels", 8, 8, 100, 50, 48, false, true, none, DType::f32},
    {"many tiles, several blocks of channels", 17, 17, 656, 0, 4, false, false, none, DType::f16},
    {"blocks of tiles for each member", 167, 163, 8, 0, 8, false, true, none, DType::f32},
    {"sums that outlive the transformed input", 41, 44, 648, 0, 36, false, true, none, DType::f32},
    {"enlarged", 6, 7, 24, 0, 20, true, false, relu, DType::f32},
    {"wider than a piece, several blocks of channels", 12, 70, 520, 0, 8, false, true, none, DType::bf16},
    {"an output of three channels", 12, 12, 40, 0, 3, false, false, none, DType::f32},
};

void fill(CallMemory& call, const Case& c, DType activation) {
  const int64_t channels = c.c + c.second, height = c.upsampled ? 2 * c.h - 1 : c.h,
                width = c.upsampled ? 2 * c.w : c.w;
  call.fill(Conv2dAttrs::kX, {2, c.h, c.w, c.c}, activation, 1.0f, 0.3f, 8);
  if (c.second > 0) call.fill(Conv2dAttrs::kX2, {2, c.h, c.w, c.second}, activation);
  call.fill(Conv2dAttrs::kWeight, {c.n, channels, 3, 3}, c.weight, 1.0f / std::sqrt(9.0f * float(channels)));
  call.fill(Conv2dAttrs::kBias, {c.n}, DType::f32);
  call.fill(Conv2dAttrs::kRowBias, {2, c.n}, DType::f32);
  if (c.residual) call.fill(Conv2dAttrs::kResidual, {2, height, width, c.n}, activation, 1.0f, 0.0f, 3);
  call.set_output(activation, 5);
}

void set(Conv2dAttrs& attrs, const Case& c) {
  if (c.upsampled) attrs.upsample_height = 2 * c.h - 1, attrs.upsample_width = 2 * c.w;
  attrs.epilogue.activation = c.out;
}

TEST(Winograd, BlocksBordersAndEpilogues) {
  for (const Case& c : kCases)
    for (DType activation : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(fmt::format("{}, {}", c.what, dtype_name(activation)));
      Conv2dAttrs attrs;
      set(attrs, c);
      CallMemory call(attrs);
      fill(call, c, activation);
      expect_kernels_agree(call, OpKind::conv2d);
    }
}

// The coefficients are those of a real norm: large means that must be taken away before anything is added.
TEST(NormConv2d, BlocksBordersAndEpilogues) {
  for (const Case& c : kCases)
    for (const DType activation : {DType::f32, DType::bf16})
      for (const Activation inside : {Activation::silu, Activation::none}) {
        SCOPED_TRACE(fmt::format("{}, {}, {} inside", c.what, dtype_name(activation), activation_name(inside)));
        NormConv2dAttrs attrs;
        set(attrs, c);
        attrs.norm_activation = inside;
        CallMemory call(attrs);
        fill(call, c, activation);
        call.fill(NormConv2dAttrs::kNorm, {2, 3, c.c + c.second}, DType::f32);
        expect_kernels_agree(call, OpKind::norm_conv2d);
      }
}

TEST(GroupNormStats, SourcesAndLargeMeans) {
  for (const float mean : {0.0f, 100.0f})
    for (const DType type : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(fmt::format("mean {} {}", mean, dtype_name(type)));
      GroupNormStatsAttrs attrs;
      attrs.groups = 6;
      CallMemory call(attrs);
      call.fill(GroupNormAttrs::kX, {2, 70, 31, 40}, type, 1.0f, mean, 3);
      call.fill(GroupNormAttrs::kX2, {2, 70, 31, 20}, type, 2.0f, mean);
      call.fill(GroupNormAttrs::kGamma, {60}, DType::f32, 0.2f, 1.0f);
      call.fill(GroupNormAttrs::kBeta, {60}, DType::f32);
      call.set_output(DType::f32);
      expect_kernels_agree(call, OpKind::group_norm_stats);
    }
}

}  // namespace
}  // namespace darkroom::testing

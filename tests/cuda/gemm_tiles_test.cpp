// Every tile of the tensor-core GEMM, with K whole and split, whatever mma_plan() would choose; in f16 as well, which the CPU's
// kernels do not have. And the plans that it does choose.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/core/mma_plan.h"
#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

MmaPlan forced;
KernelDef forced_kernel;

// Makes `variant` of gemm or conv2d, with the forced plan, the one kernel under test.
template <GemmCall (*kCall)(const KernelCall&)>
void test_only(OpKind op, std::string_view variant) {
  forced_kernel = *find_kernel(op, variant);
  forced_kernel.scratch_bytes = [](const KernelCall& call, int) { return mma_scratch_bytes(kCall(call), forced); };
  forced_kernel.enqueue = [](const KernelCall& call, const Stream& stream) {
    cuda::enqueue_mma(kCall(call), forced, call.packed, call.scratch, stream);
  };
}

// One rounding to f16 is 2^-11/√3 of a number in the mean square; twice that, as for every kernel.
const double kF16Limit = 2 * 0x1p-11 / std::sqrt(3.0) + kFloor;

void expect_agreement(const CallMemory& call, OpKind op, DType type) {
  if (type == DType::bf16) {
    const KernelsUnderTest others = kernels_under_test;
    all_may_refuse = false;
    kernels_under_test = [](OpKind) { return std::vector<const KernelDef*>{&forced_kernel}; };
    expect_kernels_agree(call, op);
    kernels_under_test = others;
    all_may_refuse = true;
    return;
  }
  const std::vector<float> expected = call.run(*find_kernel(op, "ref"), 1, DType::f64);
  const std::vector<float> out = call.run(forced_kernel, 1);
  EXPECT_LE(relative_l2(out, expected), kF16Limit);
  expect_moments(call, forced_kernel, out);
}

TEST(GemmTiles, EachTileWholeAndSplit) {
  for (DType type : {DType::bf16, DType::f16})
    for (MmaTile tile : {MmaTile::huge, MmaTile::large, MmaTile::medium, MmaTile::small})
      for (int64_t splits : {1, 3})
        for (bool geglu : {false, true}) {
          forced = {tile, splits};
          SCOPED_TRACE(fmt::format("{} tile {} splits {} geglu {}", dtype_name(type), int(tile), splits, geglu));
          test_only<gemm_call>(OpKind::gemm, type == DType::bf16 ? "sm80_mma_bf16" : "sm80_mma_f16");
          GemmAttrs attrs;
          attrs.epilogue.geglu = geglu;
          if (!geglu) attrs.epilogue.activation = splits == 1 ? Activation::silu : Activation::relu;
          CallMemory call(attrs);
          call.fill(GemmAttrs::kA, {2, 75, 168}, type, 1.0f, 0.0f, 8);
          call.fill(GemmAttrs::kWeight, {152, 168}, type, 1.0f / std::sqrt(168.0f));
          call.fill(GemmAttrs::kBias, {152}, DType::f32);
          call.fill(GemmAttrs::kRowBias, {2, 152}, DType::f32);
          call.fill(GemmAttrs::kResidual, {2, 75, geglu ? 76 : 152}, type);
          call.set_output(type, geglu ? 3 : 0);  // rows that four outputs at once do not fit
          expect_agreement(call, OpKind::gemm, type);
        }
}

TEST(GemmTiles, ConvolutionOfTwoSourcesEnlarged) {
  for (MmaTile tile : {MmaTile::huge, MmaTile::large, MmaTile::medium, MmaTile::small})
    for (int64_t splits : {1, 4}) {
      forced = {tile, splits};
      SCOPED_TRACE(fmt::format("tile {} splits {}", int(tile), splits));
      test_only<conv2d_call>(OpKind::conv2d, "sm80_mma_bf16");
      Conv2dAttrs attrs;
      attrs.upsample_height = 10;
      attrs.upsample_width = 7;
      CallMemory call(attrs);
      call.fill(Conv2dAttrs::kX, {2, 5, 4, 40}, DType::bf16);
      call.fill(Conv2dAttrs::kX2, {2, 5, 4, 8}, DType::bf16);
      call.fill(Conv2dAttrs::kWeight, {24, 48, 3, 3}, DType::bf16, 1.0f / std::sqrt(432.0f));
      call.fill(Conv2dAttrs::kBias, {24}, DType::f32);
      call.set_output(DType::bf16);
      expect_agreement(call, OpKind::conv2d, DType::bf16);
    }
}

// Odd sides, two sources, tails of columns, gaps between rows of the output; and weights whose sums are not numbers of the type.
TEST(GemmTiles, ConvolutionOfAPictureEnlargedTwice) {
  for (DType type : {DType::bf16, DType::f16})
    for (MmaTile tile : {MmaTile::huge, MmaTile::large, MmaTile::medium, MmaTile::small})
      for (int64_t splits : {1, 3}) {
        forced = {tile, splits};
        SCOPED_TRACE(fmt::format("{} tile {} splits {}", dtype_name(type), int(tile), splits));
        test_only<subpixel_call>(OpKind::conv2d,
                                 type == DType::bf16 ? "sm80_subpixel_mma_bf16" : "sm80_subpixel_mma_f16");
        Conv2dAttrs attrs;
        attrs.upsample_height = 10;
        attrs.upsample_width = 14;
        CallMemory call(attrs);
        call.fill(Conv2dAttrs::kX, {2, 5, 7, 40}, type);
        call.fill(Conv2dAttrs::kX2, {2, 5, 7, 8}, type);
        call.fill(Conv2dAttrs::kWeight, {44, 48, 3, 3}, type, 1.0f / std::sqrt(432.0f));
        call.fill(Conv2dAttrs::kBias, {44}, DType::f32);
        call.fill(Conv2dAttrs::kRowBias, {2, 44}, DType::f32);
        call.set_output(type, 4);
        expect_agreement(call, OpKind::conv2d, type);
      }
}

// Of samples that end in the middle of a tile, of a slab and of a warp's rows; from the tiles themselves and from the sums of splits;
// values far from zero, of which a 16-bit type keeps few digits.
TEST(GemmTiles, Moments) {
  struct Case {
    int64_t h, w, second, n;
    int kernel, stride;
  };
  for (const Case& c : {Case{13, 15, 24, 50, 1, 1}, Case{8, 8, 0, 136, 3, 1}, Case{17, 20, 0, 7, 3, 2},
                        Case{20, 23, 8, 72, 3, 1}, Case{1, 1, 0, 12, 3, 1}})
    for (DType type : {DType::bf16, DType::f16})
      for (MmaTile tile : {MmaTile::huge, MmaTile::large, MmaTile::medium, MmaTile::small})
        for (int64_t splits : {1, 2})
          for (bool wide : {false, true}) {  // f32 for an output
            if (wide && (type == DType::f16 || tile == MmaTile::huge)) continue;
            forced = {tile, splits};
            SCOPED_TRACE(fmt::format("{}x{}+{} to {} {} tile {} splits {}{}", c.h, c.w, c.second, c.n, dtype_name(type),
                                     int(tile), splits, wide ? " out f32" : ""));
            test_only<conv2d_call>(OpKind::conv2d, type == DType::bf16 ? "sm80_mma_bf16" : "sm80_mma_f16");
            Conv2dAttrs attrs;
            attrs.kernel = c.kernel;
            attrs.stride = c.stride;
            if (c.kernel == 1) attrs.pad_top = attrs.pad_left = attrs.pad_bottom = attrs.pad_right = 0;
            CallMemory call(attrs);
            const int64_t depth = (40 + c.second) * c.kernel * c.kernel;
            call.fill(Conv2dAttrs::kX, {2, c.h, c.w, 40}, type, 1.0f, 0.0f, 8);
            if (c.second > 0) call.fill(Conv2dAttrs::kX2, {2, c.h, c.w, c.second}, type);
            call.fill(Conv2dAttrs::kWeight, {c.n, 40 + c.second, c.kernel, c.kernel}, type,
                      1.0f / std::sqrt(float(depth)));
            call.fill(Conv2dAttrs::kBias, {c.n}, DType::f32, 100.0f, 300.0f);
            call.fill(Conv2dAttrs::kRowBias, {2, c.n}, DType::f32);
            const DType out = wide ? DType::f32 : type;
            if (c.stride == 1) call.fill(Conv2dAttrs::kResidual, {2, c.h, c.w, c.n}, out);
            call.set_output(out, c.n % 4 == 0 ? 4 : 0);
            expect_agreement(call, OpKind::conv2d, type);
            std::vector<float> moments;
            call.run_with_moments(forced_kernel, 1, moments);
            EXPECT_FALSE(moments.empty());
          }
}

GemmCall linear(int64_t rows, int64_t columns, int64_t depth) {
  GemmCall c;
  c.source[0] = TensorView::dense(nullptr, DType::bf16, {rows, depth});
  c.weight = TensorView::dense(nullptr, DType::bf16, {columns, depth});
  c.out = TensorView::dense(nullptr, DType::bf16, {rows, columns});
  return c;
}

TEST(GemmPlan, FillsTheCard) {
  // Many tiles: the largest, K whole. Few and deep: split. Every split has work.
  EXPECT_EQ(mma_plan(linear(8192, 2560, 320)).splits, 1);
  EXPECT_EQ(mma_plan(linear(8192, 2560, 1280)).tile, MmaTile::huge);
  EXPECT_GT(mma_plan(linear(128, 1280, 11520)).splits, 1);
  for (int64_t rows : {1, 2, 154, 128, 512, 2048, 8192})
    for (int64_t depth : {8, 320, 768, 1280, 2880, 23040}) {
      const GemmCall c = linear(rows, 1280, depth);
      const MmaPlan plan = mma_plan(c);
      const int64_t blocks = c.k_blocks(kMmaBlock), of_split = (blocks + plan.splits - 1) / plan.splits;
      EXPECT_GT(blocks, of_split * (plan.splits - 1)) << rows << " " << depth;
    }
}

TEST(GemmPlan, RefusesWhatNoGridCovers) {
  EXPECT_EQ(reject_mma(linear(1, 65535 * 64, 8), DType::bf16), nullptr);
  EXPECT_STREQ(reject_mma(linear(1, 65535 * 64 + 64, 8), DType::bf16), "more columns than a grid has tiles");
}

}  // namespace
}  // namespace darkroom::testing

// Tensors of more than 2³¹ elements: the first, the middle and the last block of what the largest pictures ask for. Where an
// offset does not fit, the emulator finds an address out of bounds, or the last row is not written.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/simt/sparse_call.h"

namespace darkroom::testing {
namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16;

float number(const TensorView& v, int64_t i) { return v.dtype == f32 ? v.as<float>()[i] : to_float(v.as<bf16_t>()[i]); }

// Runs it; `expected` is what the last 64 channels of its last row must hold from then on: those of the last block.
void expect_last_row(SparseCall& call, std::string_view variant, float expected) {
  SCOPED_TRACE(std::string(variant));
  const TensorView& out = call.call.out;
  ASSERT_GT(out.shape.elements(), int64_t(1) << 31);
  simt::sample_blocks(3);
  const char* reason = call.run(call.kernel(variant));
  simt::sample_blocks(0);
  ASSERT_EQ(reason, nullptr) << reason;
  for (const int64_t i : {1, 64})
    EXPECT_FLOAT_EQ(number(out, out.shape.elements() - i), expected) << i << " from the end";
}
void fill(const TensorView& v, float x) {
  for (int64_t i = 0; i < v.shape.elements(); ++i) v.as<float>()[i] = x;
}
// The last pixel of it.
void set_last(const TensorView& v, float x) {
  for (int64_t i = 0; i < v.channels(); ++i) {
    const int64_t at = v.shape.elements() - 1 - i;
    if (v.dtype == f32)
      v.as<float>()[at] = x;
    else
      v.as<bf16_t>()[at] = to_bf16(x);
  }
}

const Shape kPicture{1, 2048, 2112, 512};  // what no decoder has: 512 channels at full size

TEST(Limits, Convolutions) {
  using S = Conv2dAttrs;
  Conv2dAttrs attrs;
  attrs.kernel = 1;
  attrs.pad_top = attrs.pad_left = attrs.pad_bottom = attrs.pad_right = 0;
  for (const auto& [variant, type] : {std::pair{"sm80_mma_bf16", bf16}, std::pair{"sm80_fma", f32}}) {
    SparseCall call(attrs,
                    {{S::kX, kPicture, type},
                     {S::kWeight, {512, 512, 1, 1}, type},
                     {S::kBias, {512}, f32},
                     {S::kResidual, kPicture, type}},
                    type);
    fill(call.call.in[S::kBias], 1);
    set_last(call.call.in[S::kResidual], 2);
    expect_last_row(call, variant, 3);
    call.want_moments(call.kernel(variant));
    expect_last_row(call, variant, 3);
    const TensorView& moments = call.call.moments;  // of the last slab, whose other rows are 1
    EXPECT_EQ(number(moments, moments.shape.elements() - 1 - 2 * moments.stride[2]), 64);
    EXPECT_EQ(number(moments, moments.shape.elements() - 1 - moments.stride[2]), 1 + 2.0f / 64);
  }
  Conv2dAttrs enlarging;
  enlarging.upsample_height = 2048, enlarging.upsample_width = 2112;
  for (const char* variant : {"sm80_subpixel_mma_bf16", "sm80_mma_bf16"}) {
    SparseCall call(enlarging,
                    {{S::kX, {1, 1024, 1056, 64}, bf16}, {S::kWeight, {512, 64, 3, 3}, bf16}, {S::kBias, {512}, f32}},
                    bf16);
    fill(call.call.in[S::kBias], 1);
    expect_last_row(call, variant, 1);
  }
}

TEST(Limits, RowsOfChannels) {
  for (const DType type : {bf16, f32}) {
    SparseCall norm(GroupNormAttrs{},
                    {{GroupNormAttrs::kX, kPicture, type},
                     {GroupNormAttrs::kGamma, {512}, f32},
                     {GroupNormAttrs::kBeta, {512}, f32}},
                    type);
    fill(norm.call.in[GroupNormAttrs::kBeta], 5);
    expect_last_row(norm, "sm80", 5);

    SparseCall add(AddAttrs{}, {{AddAttrs::kA, kPicture, type}, {AddAttrs::kB, kPicture, type}}, type);
    set_last(add.call.in[AddAttrs::kA], 1);
    set_last(add.call.in[AddAttrs::kB], 2);
    expect_last_row(add, "sm80", 3);

    SparseCall upsample(UpsampleAttrs{2048, 2112}, {{UpsampleAttrs::kX, {1, 1024, 1056, 512}, type}}, type);
    set_last(upsample.call.in[UpsampleAttrs::kX], 4);
    expect_last_row(upsample, "sm80", 4);

    SparseCall layer_norm(LayerNormAttrs{},
                          {{LayerNormAttrs::kX, kPicture, type},
                           {LayerNormAttrs::kGamma, {512}, f32},
                           {LayerNormAttrs::kBeta, {512}, f32}},
                          type);
    fill(layer_norm.call.in[LayerNormAttrs::kBeta], 6);
    expect_last_row(layer_norm, "sm80", 6);
  }
}

// Attention of 16384 tokens, taken apart.
TEST(Limits, Logits) {
  const Shape logits{1, 9, 16384, 16384};
  MatmulAttrs attrs;
  attrs.transpose_b = true;
  SparseCall product(attrs, {{MatmulAttrs::kA, {1, 9, 16384, 32}, f32}, {MatmulAttrs::kB, {1, 9, 16384, 32}, f32}},
                     f32);
  const TensorView &a = product.call.in[MatmulAttrs::kA], &b = product.call.in[MatmulAttrs::kB];
  set_last(a, 1);
  for (int64_t key = 0; key < 16384; ++key)
    for (int64_t i = 0; i < 32; ++i) b.as<float>()[(8 * 16384 + key) * 32 + i] = 0.5f;
  expect_last_row(product, "sm80_fma", 16);

  SparseCall softmax(SoftmaxAttrs{}, {{SoftmaxAttrs::kX, logits, f32}}, f32);
  expect_last_row(softmax, "sm80", 1.0f / 16384);
}

}  // namespace
}  // namespace darkroom::testing

// Attention, the norms and the ops that walk rows, against `ref`: real widths, tails, gaps between rows, hard numbers.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16};

TEST(Attention, HeadDimsLengthsAndMasks) {
  struct Case {
    int64_t n, m, heads, d;
    bool causal;
  };
  for (const Case& c :
       {Case{64, 64, 2, 40, false}, Case{77, 77, 3, 64, true}, Case{50, 77, 2, 80, false}, Case{16, 16, 2, 160, false},
        Case{40, 40, 1, 512, false}, Case{1, 1, 1, 8, false}, Case{300, 300, 1, 40, false}, Case{13, 154, 2, 20, false},
        Case{200, 200, 2, 32, true}, Case{7, 3, 1, 5, false}, Case{600, 31, 1, 16, false}})
    for (DType type : kTypes)
      for (float spread : {1.0f, 12.0f}) {  // 12: one key takes nearly all of the weight
        SCOPED_TRACE(
            fmt::format("N {} M {} NH {} D {} {} spread {}", c.n, c.m, c.heads, c.d, dtype_name(type), spread));
        AttentionAttrs attrs;
        attrs.heads = int(c.heads);
        attrs.scale = 1.0f / std::sqrt(float(c.d));
        attrs.causal = c.causal;
        CallMemory call(attrs);
        const int64_t width = c.heads * c.d;
        call.fill(AttentionAttrs::kQ, {2, c.n, width}, type, spread, 0.0f, 2 * width);
        call.fill(AttentionAttrs::kK, {2, c.m, width}, type, 1.0f, 0.0f, 2 * width);
        call.fill(AttentionAttrs::kV, {2, c.m, width}, type, 1.0f, 0.0f, 2 * width);
        call.set_output(type, 3);
        expect_kernels_agree(call, OpKind::attention);
      }
}

TEST(GroupNorm, WidthsSourcesAndLargeMeans) {
  struct Case {
    int64_t h, w, c, second;
    int groups;
  };
  for (const Case& c : {Case{8, 8, 320, 0, 32}, Case{5, 3, 64, 0, 8}, Case{4, 4, 40, 20, 6}, Case{9, 7, 30, 0, 3},
                        Case{1, 1, 32, 0, 4}, Case{64, 48, 32, 0, 32}, Case{8, 8, 640, 320, 32}})
    for (DType type : kTypes)
      for (float mean : {0.0f, 300.0f})
        for (bool silu : {false, true}) {
          SCOPED_TRACE(fmt::format("{}x{}x{}+{} groups {} {} mean {} silu {}", c.h, c.w, c.c, c.second, c.groups,
                                   dtype_name(type), mean, silu));
          GroupNormAttrs plain;
          plain.groups = c.groups;
          GroupNormSiluAttrs fused;
          fused.groups = c.groups;
          CallMemory call(silu ? OpAttrs(fused) : OpAttrs(plain));
          call.fill(GroupNormAttrs::kX, {3, c.h, c.w, c.c}, type, 1.0f, mean, 8);
          if (c.second) call.fill(GroupNormAttrs::kX2, {3, c.h, c.w, c.second}, type, 2.0f, mean, 0);
          call.fill(GroupNormAttrs::kGamma, {c.c + c.second}, DType::f32, 0.5f, 1.0f);
          call.fill(GroupNormAttrs::kBeta, {c.c + c.second}, DType::f32);
          call.set_output(type, 5);
          expect_kernels_agree(call, silu ? OpKind::group_norm_silu : OpKind::group_norm);
        }
}

TEST(LayerNorm, WidthsAndLargeMeans) {
  for (int64_t width : {1, 7, 8, 40, 320, 333, 1280})
    for (DType type : kTypes)
      for (float mean : {0.0f, 1000.0f}) {
        if (width == 1 && mean != 0) continue;  // one channel is its own mean
        SCOPED_TRACE(fmt::format("C {} {} mean {}", width, dtype_name(type), mean));
        CallMemory call(LayerNormAttrs{});
        call.fill(LayerNormAttrs::kX, {2, 9, width}, type, mean == 0 ? 1.0f : 8.0f, mean, 4);
        call.fill(LayerNormAttrs::kGamma, {width}, DType::f32, 0.5f, 1.0f);
        call.fill(LayerNormAttrs::kBeta, {width}, DType::f32);
        call.set_output(type, 3);
        expect_kernels_agree(call, OpKind::layer_norm);
      }
}

TEST(Softmax, WidthsMaskAndLargeLogits) {
  for (int64_t width : {1, 3, 8, 77, 256, 1001})
    for (DType type : kTypes)
      for (float spread : {1.0f, 60.0f})
        for (bool causal : {false, true}) {
          SCOPED_TRACE(fmt::format("M {} {} spread {} causal {}", width, dtype_name(type), spread, causal));
          SoftmaxAttrs attrs;
          attrs.causal = causal;
          CallMemory call(attrs);
          call.fill(SoftmaxAttrs::kX, {2, 2, causal ? width : 5, width}, type, spread, 100.0f, 1);
          call.set_output(type, 2);
          expect_kernels_agree(call, OpKind::softmax);
        }
}

TEST(Elementwise, ActivationsAndScale) {
  for (Activation activation :
       {Activation::none, Activation::silu, Activation::gelu, Activation::quick_gelu, Activation::relu})
    for (DType in : kTypes)
      for (DType out : kTypes)
        for (int64_t width : {45, 44, 56})
          for (int64_t gap : {0, 3, 8}) {
            SCOPED_TRACE(fmt::format("{} {} to {} width {} gap {}", activation_name(activation), dtype_name(in),
                                     dtype_name(out), width, gap));
            UnaryAttrs attrs;
            attrs.activation = activation;
            attrs.scale = 0.18215f;
            CallMemory call(attrs);
            call.fill(UnaryAttrs::kX, {2, 71, width}, in, 4.0f, 0.0f, gap);
            call.set_output(out, gap);
            expect_kernels_agree(call, OpKind::unary);
          }
}

// Widths that GPUs move one by one, by fours of f32, by eights of bf16.
TEST(Elementwise, AddGegluConcatUpsample) {
  for (DType type : kTypes)
    for (int64_t width : {37, 44, 48}) {
      SCOPED_TRACE(fmt::format("{} width {}", dtype_name(type), width));
      for (bool per_sample : {false, true}) {
        CallMemory add(AddAttrs{});
        add.fill(AddAttrs::kA, {2, 5, 6, width}, type);
        add.fill(AddAttrs::kB, per_sample ? Shape{2, width} : Shape{2, 5, 6, width}, per_sample ? DType::f32 : type,
                 1.0f, 0.0f, width == 37 ? 2 : 8);
        add.set_output(type);
        expect_kernels_agree(add, OpKind::add);
      }
      CallMemory geglu(GegluAttrs{});
      geglu.fill(GegluAttrs::kX, {2, 19, 2 * width}, type, 2.0f);
      geglu.set_output(type, width == 37 ? 1 : 0);
      expect_kernels_agree(geglu, OpKind::geglu);

      CallMemory concat(ConcatAttrs{});
      concat.fill(0, {2, 3, 4, width == 37 ? 5 : 8}, type, 1.0f, 0.0f, width == 37 ? 3 : 8);
      concat.fill(1, {2, 3, 4, 16}, type);
      concat.fill(2, {2, 3, 4, width}, type);
      concat.set_output(type, 4);
      expect_kernels_agree(concat, OpKind::concat, 0.0);

      UpsampleAttrs size;
      size.height = 7, size.width = 11;
      CallMemory upsample(size);
      upsample.fill(UpsampleAttrs::kX, {2, 4, 6, width}, type, 1.0f, 0.0f, width == 37 ? 2 : 8);
      upsample.set_output(type, width == 37 ? 1 : 8);
      expect_kernels_agree(upsample, OpKind::upsample, 0.0);
    }
}

TEST(Lookups, EmbeddingAndSelectedRows) {
  for (DType table : {DType::f32, DType::f16, DType::bf16})
    for (DType out : kTypes)
      for (int64_t width : {43, 44, 48}) {
        SCOPED_TRACE(fmt::format("{} to {} width {}", dtype_name(table), dtype_name(out), width));
        CallMemory call(EmbeddingAttrs{});
        call.fill(EmbeddingAttrs::kIds, {2, 9}, DType::i32, 120.0f, -10.0f);  // some outside of the table
        call.fill(EmbeddingAttrs::kTable, {100, width}, table);
        call.fill(EmbeddingAttrs::kPositions, {12, width}, table);
        call.set_output(out, width == 43 ? 2 : 8);
        expect_kernels_agree(call, OpKind::embedding);
      }
  for (int64_t width : {21, 28, 32}) {
    CallMemory rows(SelectRowsAttrs{});
    rows.fill(SelectRowsAttrs::kX, {3, 7, width}, DType::bf16, 1.0f, 0.0f, width == 21 ? 5 : 8);
    rows.fill(SelectRowsAttrs::kIndex, {3}, DType::i32, 7.0f);
    rows.set_output(width == 28 ? DType::f32 : DType::bf16);
    expect_kernels_agree(rows, OpKind::select_rows, 0.0);
  }
}

TEST(TimestepEmbedding, WholeFractionalAndSideBySide) {
  for (int dim : {2, 30, 320})
    for (bool flip : {false, true})
      for (const Shape& shape : {Shape{5}, Shape{2, 6}}) {
        SCOPED_TRACE(fmt::format("dim {} flip {} t {}", dim, flip, shape.to_string()));
        TimestepEmbeddingAttrs attrs;
        attrs.dim = dim;
        attrs.flip_sin_to_cos = flip;
        CallMemory call(attrs);
        call.fill(TimestepEmbeddingAttrs::kT, shape, DType::f32, 300.0f, 500.0f);
        call.set_output(DType::f32);
        expect_kernels_agree(call, OpKind::timestep_embedding);
      }
}

}  // namespace
}  // namespace darkroom::testing

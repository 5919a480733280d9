// The fast gemm, matmul and conv2d kernels against `ref`, whatever the team's size.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

TEST(Gemm, ShapesTypesAndEpilogues) {
  struct Case {
    int64_t b, m, n, k;
  };
  for (const Case& c : {Case{1, 1, 1, 1}, Case{2, 77, 768, 768}, Case{2, 13, 17, 331}, Case{1, 64, 320, 320},
                        Case{2, 5, 1280, 320}, Case{1, 193, 40, 1280}})
    for (DType activation : {DType::f32, DType::bf16})
      for (DType weight : {DType::f32, DType::f16, DType::bf16})
        for (int epilogue = 0; epilogue < 5; ++epilogue) {
          if (epilogue == 4 && c.n == 1) continue;  // a single output that relu makes zero has no relative error
          GemmAttrs attrs;
          attrs.epilogue.geglu = epilogue == 3 && c.n % 2 == 0;
          if (epilogue == 2) attrs.epilogue.activation = Activation::gelu;
          if (epilogue == 4) attrs.epilogue.activation = Activation::relu;
          SCOPED_TRACE(fmt::format("{}x{} n {} k {} {} weight {} epilogue {}", c.b, c.m, c.n, c.k,
                                   dtype_name(activation), dtype_name(weight), epilogue));
          CallMemory call(attrs);
          call.fill(GemmAttrs::kA, {c.b, c.m, c.k}, activation);
          call.fill(GemmAttrs::kWeight, {c.n, c.k}, weight, 1.0f / std::sqrt(float(c.k)));
          if (epilogue > 0) call.fill(GemmAttrs::kBias, {c.n}, DType::f32);
          if (epilogue == 1) {
            call.fill(GemmAttrs::kRowBias, {c.b, c.n}, DType::f32);
            call.fill(GemmAttrs::kResidual, {c.b, c.m, c.n}, activation);
          }
          call.set_output(activation);
          expect_kernels_agree(call, OpKind::gemm);
        }
}

TEST(Gemm, Int8) {
  struct Case {
    int64_t b, m, n, k;
  };
  for (const Case& c : {Case{1, 1, 1, 1}, Case{2, 13, 17, 331}, Case{1, 30, 320, 64}, Case{1, 5, 70, 1700}})
    for (DType activation : {DType::f32, DType::bf16})
      for (DType weight : {DType::f32, DType::f16, DType::bf16})
        for (int epilogue = 0; epilogue < 3; ++epilogue)
          for (float deviation : {1.0f, 0.0f}) {  // 0: there is nothing to scale by
            GemmAttrs attrs;
            attrs.int8 = true;
            attrs.epilogue.geglu = epilogue == 2 && c.n % 2 == 0;
            SCOPED_TRACE(fmt::format("{}x{} n {} k {} {} weight {} epilogue {} deviation {}", c.b, c.m, c.n, c.k,
                                     dtype_name(activation), dtype_name(weight), epilogue, deviation));
            CallMemory call(attrs);
            call.fill(GemmAttrs::kA, {c.b, c.m, c.k}, activation, deviation, 0.0f, 3);
            call.fill(GemmAttrs::kWeight, {c.n, c.k}, weight, 1.0f / std::sqrt(float(c.k)));
            call.fill(GemmAttrs::kBias, {c.n}, DType::f32);
            if (epilogue == 1) call.fill(GemmAttrs::kResidual, {c.b, c.m, c.n}, activation);
            call.set_output(activation, 1);
            expect_kernels_agree(call, OpKind::gemm);
          }
}

TEST(Matmul, BothOrientations) {
  for (bool transpose : {false, true})
    for (DType type : {DType::f32, DType::bf16})
      for (int64_t k : {40, 33}) {
        const int64_t columns = k == 40 ? 72 : 77;
        SCOPED_TRACE(fmt::format("transposed {} {} k {}", transpose, dtype_name(type), k));
        MatmulAttrs attrs;
        attrs.alpha = 0.125f;
        attrs.transpose_b = transpose;
        CallMemory call(attrs);
        call.fill(MatmulAttrs::kA, {2, 3, 29, k}, type);
        call.fill(MatmulAttrs::kB, transpose ? Shape{2, 3, columns, k} : Shape{2, 3, k, columns}, type);
        call.set_output(type);
        expect_kernels_agree(call, OpKind::matmul);
      }
}

TEST(Conv2d, KernelsStridesPaddingAndSources) {
  struct Case {
    int kernel, stride;
    bool asymmetric, two_sources, upsampled;
    int64_t h, w, c, n;
  };
  for (const Case& c :
       {Case{3, 1, false, false, false, 9, 7, 32, 48}, Case{3, 2, false, false, false, 9, 8, 16, 20},
        Case{3, 2, true, false, false, 8, 8, 24, 16}, Case{3, 1, false, true, false, 6, 5, 20, 33},
        Case{3, 1, false, false, true, 5, 4, 16, 16}, Case{1, 1, false, true, false, 8, 8, 40, 64},
        Case{3, 1, false, false, false, 16, 16, 4, 320}, Case{3, 1, false, false, false, 16, 16, 128, 3},
        Case{3, 1, false, false, false, 4, 4, 640, 64}, Case{3, 1, false, false, false, 1, 1, 9, 5},
        Case{3, 1, false, true, false, 20, 17, 33, 40}, Case{3, 1, false, false, true, 8, 9, 47, 33},
        Case{3, 1, false, false, false, 3, 16, 40, 33}, Case{3, 1, false, true, false, 5, 48, 36, 40}})
    for (DType activation : {DType::f32, DType::bf16}) {
      Conv2dAttrs attrs;
      attrs.kernel = c.kernel;
      attrs.stride = c.stride;
      if (c.kernel == 1) attrs.pad_top = attrs.pad_left = attrs.pad_bottom = attrs.pad_right = 0;
      if (c.asymmetric) attrs.pad_top = attrs.pad_left = 0;
      if (c.upsampled) attrs.upsample_height = 2 * c.h, attrs.upsample_width = 2 * c.w - 1;
      if (c.stride == 2 || c.upsampled) attrs.epilogue.activation = Activation::relu;
      SCOPED_TRACE(fmt::format("{0}x{0} s{1} {2}x{3} {4} to {5} {6}", c.kernel, c.stride, c.h, c.w, c.c, c.n,
                               dtype_name(activation)));
      const int64_t second = c.two_sources ? c.c / 2 : 0;
      const int64_t k = (c.c + second) * c.kernel * c.kernel;
      CallMemory call(attrs);
      call.fill(Conv2dAttrs::kX, {2, c.h, c.w, c.c}, activation);
      if (c.two_sources) call.fill(Conv2dAttrs::kX2, {2, c.h, c.w, second}, activation);
      call.fill(Conv2dAttrs::kWeight, {c.n, c.c + second, c.kernel, c.kernel}, DType::f16, 1.0f / std::sqrt(float(k)));
      call.fill(Conv2dAttrs::kBias, {c.n}, DType::f32);
      call.fill(Conv2dAttrs::kRowBias, {2, c.n}, DType::f32);
      if (c.two_sources) call.fill(Conv2dAttrs::kResidual, {2, c.h, c.w, c.n}, activation, 1.0f, 0.0f, 8);
      call.set_output(activation, 4);
      expect_kernels_agree(call, OpKind::conv2d);
    }
}

// The form in which four 2×2 convolutions are as good as one 3×3 of the enlarged picture.
TEST(Conv2d, EnlargedTwice) {
  struct Case {
    int64_t h, w, c, second, n;
  };
  for (const Case& c : {Case{1, 1, 9, 0, 5}, Case{5, 4, 16, 0, 16}, Case{8, 9, 47, 20, 33}, Case{20, 17, 100, 0, 40},
                        Case{3, 16, 40, 0, 33}})
    for (DType activation : {DType::f32, DType::bf16}) {
      Conv2dAttrs attrs;
      attrs.upsample_height = 2 * c.h, attrs.upsample_width = 2 * c.w;
      attrs.epilogue.activation = Activation::silu;
      SCOPED_TRACE(fmt::format("{}x{} {}+{} to {} {}", c.h, c.w, c.c, c.second, c.n, dtype_name(activation)));
      CallMemory call(attrs);
      call.fill(Conv2dAttrs::kX, {2, c.h, c.w, c.c}, activation);
      if (c.second > 0) call.fill(Conv2dAttrs::kX2, {2, c.h, c.w, c.second}, activation);
      const int64_t channels = c.c + c.second;
      call.fill(Conv2dAttrs::kWeight, {c.n, channels, 3, 3}, DType::f16, 1.0f / std::sqrt(9 * float(channels)));
      call.fill(Conv2dAttrs::kBias, {c.n}, DType::f32);
      call.fill(Conv2dAttrs::kRowBias, {2, c.n}, DType::f32);
      if (c.second > 0) call.fill(Conv2dAttrs::kResidual, {2, 2 * c.h, 2 * c.w, c.n}, activation, 1.0f, 0.0f, 8);
      call.set_output(activation, 4);
      expect_kernels_agree(call, OpKind::conv2d);
    }
}

TEST(Conv2d, Int8) {
  struct Case {
    int kernel, stride;
    bool two_sources, upsampled;
    int64_t h, w, c, n;
  };
  for (const Case& c : {Case{1, 1, true, false, 8, 8, 40, 64}, Case{3, 2, false, false, 9, 8, 16, 20},
                        Case{3, 1, true, false, 6, 5, 20, 33}, Case{3, 1, false, true, 5, 4, 16, 16},
                        Case{3, 2, false, false, 4, 5, 200, 40}})
    for (DType activation : {DType::f32, DType::bf16}) {
      Conv2dAttrs attrs;
      attrs.int8 = true;
      attrs.kernel = c.kernel;
      attrs.stride = c.stride;
      if (c.kernel == 1) attrs.pad_top = attrs.pad_left = attrs.pad_bottom = attrs.pad_right = 0;
      if (c.upsampled) attrs.upsample_height = 2 * c.h, attrs.upsample_width = 2 * c.w - 1;
      SCOPED_TRACE(fmt::format("{0}x{0} s{1} {2}x{3} {4} to {5} {6}", c.kernel, c.stride, c.h, c.w, c.c, c.n,
                               dtype_name(activation)));
      const int64_t second = c.two_sources ? c.c / 2 : 0, k = (c.c + second) * c.kernel * c.kernel;
      CallMemory call(attrs);
      call.fill(Conv2dAttrs::kX, {2, c.h, c.w, c.c}, activation, 1.0f, 0.0f, 8);
      if (c.two_sources) call.fill(Conv2dAttrs::kX2, {2, c.h, c.w, second}, activation, 2.0f);
      call.fill(Conv2dAttrs::kWeight, {c.n, c.c + second, c.kernel, c.kernel}, DType::f16, 1.0f / std::sqrt(float(k)));
      call.fill(Conv2dAttrs::kBias, {c.n}, DType::f32);
      call.fill(Conv2dAttrs::kRowBias, {2, c.n}, DType::f32);
      call.set_output(activation);
      expect_kernels_agree(call, OpKind::conv2d);
    }
}

}  // namespace
}  // namespace darkroom::testing

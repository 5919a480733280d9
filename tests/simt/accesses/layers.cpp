#include "tests/simt/accesses/layers.h"

#include <fmt/core.h>

#include <stdexcept>

#include "kernels/core/gemm_call.h"
#include "tests/simt/sparse_call.h"

namespace darkroom::testing {

namespace {

constexpr DType f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16, i32 = DType::i32, u8 = DType::u8;
constexpr uint64_t kBlocks = 3;  // of a grid: first, middle, last

using Operand = SparseOperand;
struct Layer {
  std::string what;
  std::string_view variant;
  OpAttrs attrs;
  std::vector<Operand> in;
  DType out;
  bool moments = false;  // left by it
};

// --- the layers -------------------------------------------------------------------------------------------------------

Layer linear(std::string what, std::string_view variant, const Shape& a, int64_t columns, DType type,
             Epilogue epilogue = {}, bool residual = false) {
  GemmAttrs attrs;
  attrs.epilogue = epilogue;
  Layer l{std::move(what), variant, attrs, {}, type};
  l.in = {{GemmAttrs::kA, a, type}, {GemmAttrs::kWeight, {columns, a.channels()}, type}};
  l.in.push_back({GemmAttrs::kBias, {columns}, f32});
  if (residual) l.in.push_back({GemmAttrs::kResidual, {a[0], a[1], columns}, type});
  return l;
}

struct Convolution {
  int64_t side, channels, columns, second = 0;
  int kernel = 3, stride = 1;
  int64_t enlarged = 0;
  bool row_bias = false, residual = false, moments = false;
};
Layer conv(std::string what, std::string_view variant, const Convolution& c, DType in, DType out) {
  Conv2dAttrs attrs;
  attrs.kernel = c.kernel;
  attrs.stride = c.stride;
  if (c.kernel == 1) attrs.pad_top = attrs.pad_left = attrs.pad_bottom = attrs.pad_right = 0;
  attrs.upsample_height = attrs.upsample_width = c.enlarged;
  const int64_t samples = c.side > 64 ? 1 : 2;
  Layer l{std::move(what), variant, attrs, {}, out, c.moments};
  l.in.push_back({Conv2dAttrs::kX, {samples, c.side, c.side, c.channels}, in});
  if (c.second) l.in.push_back({Conv2dAttrs::kX2, {samples, c.side, c.side, c.second}, in});
  l.in.push_back({Conv2dAttrs::kWeight, {c.columns, c.channels + c.second, c.kernel, c.kernel}, in});
  l.in.push_back({Conv2dAttrs::kBias, {c.columns}, f32});
  if (c.row_bias) l.in.push_back({Conv2dAttrs::kRowBias, {samples, c.columns}, f32});
  if (c.residual) l.in.push_back({Conv2dAttrs::kResidual, {samples, c.side, c.side, c.columns}, out});
  return l;
}

// q, k and v as slices of one projection; of cross-attention (77 keys), k and v alone.
Layer attention(std::string what, std::string_view variant, int64_t queries, int64_t keys, int heads, int64_t dim,
                DType type, bool causal = false) {
  AttentionAttrs attrs;
  attrs.heads = heads;
  attrs.causal = causal;
  const int64_t width = heads * dim, q_step = queries == keys ? 3 * width : width,
                step = queries == keys ? q_step : 2 * width;
  return {std::move(what),
          variant,
          attrs,
          {{AttentionAttrs::kQ, {1, queries, width}, type, q_step},
           {AttentionAttrs::kK, {1, keys, width}, type, step},
           {AttentionAttrs::kV, {1, keys, width}, type, step}},
          type};
}

template <typename Attrs>
Layer group_norm(std::string what, int64_t samples, int64_t side, int64_t channels, int64_t second, DType type,
                 bool moments = false) {
  Layer l{std::move(what), "sm80", Attrs{}, {}, type};
  l.in.push_back({GroupNormAttrs::kX, {samples, side, side, channels}, type});
  if (second) l.in.push_back({GroupNormAttrs::kX2, {samples, side, side, second}, type});
  l.in.push_back({GroupNormAttrs::kGamma, {channels + second}, f32});
  l.in.push_back({GroupNormAttrs::kBeta, {channels + second}, f32});
  const int64_t slabs = side * side / kSlabRows;
  if (moments) l.in.push_back({GroupNormAttrs::kMoments, {samples, slabs, 3, channels}, f32});
  if (moments && second) l.in.push_back({GroupNormAttrs::kMoments2, {samples, slabs, 3, second}, f32});
  return l;
}

Layer layer_norm(std::string what, const Shape& x, DType type) {
  return {std::move(what),
          "sm80",
          LayerNormAttrs{},
          {{LayerNormAttrs::kX, x, type},
           {LayerNormAttrs::kGamma, {x.channels()}, f32},
           {LayerNormAttrs::kBeta, {x.channels()}, f32}},
          type};
}

template <typename Attrs>
Layer of_x(std::string what, Attrs attrs, const Shape& x, DType in, DType out) {
  return {std::move(what), "sm80", attrs, {{0, x, in}}, out};
}

// Attention taken apart: q kᵀ, or weights times v.
Layer product(std::string what, bool transpose, int64_t columns, int64_t depth, DType type) {
  MatmulAttrs attrs;
  attrs.transpose_b = transpose;
  return {std::move(what),
          "sm80_fma",
          attrs,
          {{MatmulAttrs::kA, {1, 8, 1024, depth}, type},
           {MatmulAttrs::kB, transpose ? Shape{1, 8, columns, depth} : Shape{1, 8, depth, columns}, type}},
          type};
}

void add_products(std::vector<Layer>& all) {
  Epilogue geglu, quick_gelu;
  geglu.geglu = true;
  quick_gelu.activation = Activation::quick_gelu;
  all.push_back(linear("linear 2x4096x320 to 320 +residual", "sm80_mma_bf16", {2, 4096, 320}, 320, bf16, {}, true));
  all.push_back(linear("linear 2x4096x320 to 320 +residual, f16", "sm80_mma_f16", {2, 4096, 320}, 320, f16, {}, true));
  all.push_back(linear("linear 2x4096x320 to 2560 geglu", "sm80_mma_bf16", {2, 4096, 320}, 2560, bf16, geglu));
  all.push_back(linear("linear 2x64x1280 to 10240 geglu", "sm80_mma_bf16", {2, 64, 1280}, 10240, bf16, geglu));
  all.push_back(linear("linear 2x1024x1280 to 1280", "sm80_mma_bf16", {2, 1024, 1280}, 1280, bf16));
  all.push_back(linear("linear 77x768 to 3072", "sm80_mma_bf16", {1, 77, 768}, 3072, bf16, quick_gelu));
  all.push_back(linear("linear 1x2x1280 to 1280", "sm80_mma_bf16", {1, 2, 1280}, 1280, bf16));
  all.push_back(linear("linear 2x1024x640 to 640 +residual, f32", "sm80_fma", {2, 1024, 640}, 640, f32, {}, true));
  all.push_back(product("8 heads: q 1024x80, k 1024x80", true, 1024, 80, f32));
  all.push_back(product("8 heads: weights 1024x77, v 77x80", false, 80, 77, f32));
  all.push_back(product("8 heads: weights 1024x1024, v 1024x80, bf16", false, 80, 1024, bf16));

  constexpr Convolution inside{.side = 64, .channels = 320, .columns = 320, .row_bias = true};
  constexpr Convolution to_latents{.side = 64, .channels = 320, .columns = 4};
  constexpr Convolution enlarging{.side = 32, .channels = 640, .columns = 640, .enlarged = 64};
  all.push_back(conv("64x64x320 to 320 +row_bias", "sm80_mma_bf16", inside, bf16, bf16));
  all.push_back(conv("64x64x320 to 320 +row_bias, f16", "sm80_mma_f16", inside, f16, f16));
  all.push_back(conv("32x32x1280+640 to 640 +residual", "sm80_mma_bf16",
                     {.side = 32, .channels = 1280, .columns = 640, .second = 640, .residual = true}, bf16, bf16));
  all.push_back(conv("8x8x1280 to 1280", "sm80_mma_bf16", {.side = 8, .channels = 1280, .columns = 1280}, bf16, bf16));
  all.push_back(conv("64x64x320 to 320, every second", "sm80_mma_bf16",
                     {.side = 64, .channels = 320, .columns = 320, .stride = 2}, bf16, bf16));
  all.push_back(conv("64x64x640+320 to 320, 1x1", "sm80_mma_bf16",
                     {.side = 64, .channels = 640, .columns = 320, .second = 320, .kernel = 1}, bf16, bf16));
  all.push_back(conv("64x64x320 to 4, out f32", "sm80_mma_bf16", to_latents, bf16, f32));
  all.push_back(
      conv("decoder 128x128x512 to 512", "sm80_mma_bf16", {.side = 128, .channels = 512, .columns = 512}, bf16, bf16));
  all.push_back(
      conv("decoder 512x512x128 to 3", "sm80_mma_bf16", {.side = 512, .channels = 128, .columns = 3}, bf16, bf16));
  all.push_back(conv("32x32x640 enlarged to 640", "sm80_subpixel_mma_bf16", enlarging, bf16, bf16));
  all.push_back(conv("32x32x640 enlarged to 640, f16", "sm80_subpixel_mma_f16", enlarging, f16, f16));
  constexpr Convolution seen{.side = 64, .channels = 320, .columns = 320, .residual = true, .moments = true};
  all.push_back(conv("64x64x320 to 320 +residual, moments", "sm80_mma_bf16", seen, bf16, bf16));
  all.push_back(conv("64x64x320 to 320 +residual, moments, f16", "sm80_mma_f16", seen, f16, f16));
  all.push_back(conv("64x64x320 to 320 +residual, moments, f32", "sm80_fma", seen, f32, f32));
  all.push_back(conv("16x16x1280 to 1280, moments", "sm80_mma_bf16",
                     {.side = 16, .channels = 1280, .columns = 1280, .moments = true}, bf16, bf16));
  all.push_back(conv("decoder 256x256x256 to 256, moments", "sm80_mma_bf16",
                     {.side = 256, .channels = 256, .columns = 256, .moments = true}, bf16, bf16));
  all.push_back(conv("8x8x1280 to 1280, moments", "sm80_mma_bf16",
                     {.side = 8, .channels = 1280, .columns = 1280, .moments = true}, bf16, bf16));
  all.push_back(conv("32x32x640 enlarged to 640, moments", "sm80_subpixel_mma_bf16",
                     {.side = 32, .channels = 640, .columns = 640, .enlarged = 64, .moments = true}, bf16, bf16));
  all.push_back(conv("64x64x4 to 320", "sm80_fma", {.side = 64, .channels = 4, .columns = 320}, bf16, bf16));
  all.push_back(conv("16x16x640+640 to 640, f32", "sm80_fma",
                     {.side = 16, .channels = 640, .columns = 640, .second = 640, .row_bias = true}, f32, f32));
}

void add_attention(std::vector<Layer>& all) {
  all.push_back(attention("8 heads of 40, 4096 of themselves", "sm80_flash", 4096, 4096, 8, 40, bf16));
  all.push_back(attention("8 heads of 40, 4096 of 77", "sm80_flash", 4096, 77, 8, 40, bf16));
  all.push_back(attention("12 heads of 64, 77 causal", "sm80_flash", 77, 77, 12, 64, bf16, true));
  all.push_back(attention("10 heads of 64, 1024 of 77", "sm80_flash", 1024, 77, 10, 64, bf16));
  all.push_back(attention("8 heads of 80, 1024 of themselves", "sm80_flash", 1024, 1024, 8, 80, bf16));
  all.push_back(attention("8 heads of 160, 256 of themselves", "sm80_flash", 256, 256, 8, 160, bf16));
  all.push_back(attention("8 heads of 160, 256 of 77", "sm80_flash", 256, 77, 8, 160, bf16));
  all.push_back(attention("decoder: 1 head of 512, 1024", "sm80_flash_wide", 1024, 1024, 1, 512, bf16));
  all.push_back(attention("8 heads of 40, 1024, f32", "sm80_fma", 1024, 1024, 8, 40, f32));
  all.push_back(attention("8 heads of 160, 64 of 77, f32", "sm80_fma", 64, 77, 8, 160, f32));
  all.push_back(attention("decoder: 1 head of 512, 256, f32", "sm80_fma", 256, 256, 1, 512, f32));
}

void add_rows(std::vector<Layer>& all) {
  all.push_back(group_norm<GroupNormSiluAttrs>("64x64x320", 2, 64, 320, 0, bf16));
  all.push_back(group_norm<GroupNormSiluAttrs>("32x32x1280+640", 2, 32, 1280, 640, bf16));
  all.push_back(group_norm<GroupNormSiluAttrs>("decoder 256x256x128", 1, 256, 128, 0, bf16));
  all.push_back(group_norm<GroupNormAttrs>("16x16x1280", 2, 16, 1280, 0, bf16));
  all.push_back(group_norm<GroupNormAttrs>("64x64x320, f32", 2, 64, 320, 0, f32));
  all.push_back(group_norm<GroupNormSiluAttrs>("64x64x320 by moments", 2, 64, 320, 0, bf16, true));
  all.push_back(group_norm<GroupNormSiluAttrs>("32x32x1280+640 by moments", 2, 32, 1280, 640, bf16, true));
  all.push_back(group_norm<GroupNormSiluAttrs>("decoder 512x512x128 by moments", 1, 512, 128, 0, bf16, true));
  all.push_back(layer_norm("2x4096x320", {2, 4096, 320}, bf16));
  all.push_back(layer_norm("2x256x1280", {2, 256, 1280}, bf16));
  all.push_back(layer_norm("2x1024x640, f32", {2, 1024, 640}, f32));
  all.push_back(of_x("8x1024x1024", SoftmaxAttrs{}, {1, 8, 1024, 1024}, bf16, bf16));
  all.push_back(of_x("8x1024x1024, f32", SoftmaxAttrs{}, {1, 8, 1024, 1024}, f32, f32));
  all.push_back(of_x("8x1024x77, f32", SoftmaxAttrs{}, {1, 8, 1024, 77}, f32, f32));
  all.push_back(of_x("silu 2x1280", UnaryAttrs{Activation::silu}, {2, 1280}, bf16, bf16));
  all.push_back(of_x("copy 77x768 to f32", UnaryAttrs{}, {1, 77, 768}, bf16, f32));
  all.push_back(of_x("copy 64x64x4 to bf16", UnaryAttrs{}, {2, 64, 64, 4}, f32, bf16));
  all.push_back(of_x("64x64x320, f32", UnaryAttrs{Activation::silu}, {2, 64, 64, 320}, f32, f32));
  all.push_back({"64x64x320", "sm80", AddAttrs{}, {{0, {2, 64, 64, 320}, bf16}, {1, {2, 64, 64, 320}, bf16}}, bf16});
  all.push_back({"64x64x320 of a sample", "sm80", AddAttrs{}, {{0, {2, 64, 64, 320}, bf16}, {1, {2, 320}, f32}}, bf16});
  all.push_back({"64x64x320, f32", "sm80", AddAttrs{}, {{0, {2, 64, 64, 320}, f32}, {1, {2, 64, 64, 320}, f32}}, f32});
  all.push_back(of_x("2x4096x2560", GegluAttrs{}, {2, 4096, 2560}, bf16, bf16));
  all.push_back(of_x("2x1024x5120, f32", GegluAttrs{}, {2, 1024, 5120}, f32, f32));
  all.push_back(
      {"32x32x1280+640", "sm80", ConcatAttrs{}, {{0, {2, 32, 32, 1280}, bf16}, {1, {2, 32, 32, 640}, bf16}}, bf16});
  all.push_back(of_x("32x32x640", UpsampleAttrs{64, 64}, {2, 32, 32, 640}, bf16, bf16));
  all.push_back(of_x("32x32x640, f32", UpsampleAttrs{64, 64}, {2, 32, 32, 640}, f32, f32));
  all.push_back({"77 of 49408x768",
                 "sm80",
                 EmbeddingAttrs{},
                 {{EmbeddingAttrs::kIds, {1, 77}, i32},
                  {EmbeddingAttrs::kTable, {49408, 768}, bf16},
                  {EmbeddingAttrs::kPositions, {77, 768}, bf16}},
                 bf16});
  all.push_back({"1 of 77x1280",
                 "sm80",
                 SelectRowsAttrs{},
                 {{SelectRowsAttrs::kX, {1, 77, 1280}, bf16}, {SelectRowsAttrs::kIndex, {1}, i32}},
                 bf16});
  all.push_back(of_x("20 times, 320", TimestepEmbeddingAttrs{}, {20}, f32, bf16));
}

void add_loop(std::vector<Layer>& all) {
  const Shape latents{64, 64, 4}, slots{4, 64, 64, 4};
  const Operand calls{0, {20, kLoopCallWords}, i32}, index{1, {1}, i32};
  all.push_back({"64x64x4", "sm80", LoopInputAttrs{2}, {calls, index, {LoopInputAttrs::kSlots, slots, f32}}, f32});
  all.push_back({"64x64x4+5",
                 "sm80",
                 LoopInputAttrs{2},
                 {calls, index, {LoopInputAttrs::kSlots, slots, f32}, {LoopInputAttrs::kExtra, {64, 64, 5}, f32}},
                 f32});
  using S = LoopUpdateAttrs;
  all.push_back({"64x64x4 with a mask",
                 "sm80",
                 S{},
                 {calls,
                  index,
                  {S::kModel, {2, 64, 64, 4}, f32},
                  {S::kSlots, slots, f32},
                  {S::kKeep, latents, f32},
                  {S::kImage, latents, f32},
                  {S::kStart, latents, f32}},
                 f32});
  all.push_back({"1", "sm80", LoopAdvanceAttrs{}, {{LoopAdvanceAttrs::kIndex, {1}, i32}}, i32});
  all.push_back(of_x("512x512x3", ToRgbAttrs{}, {1, 512, 512, 3}, bf16, u8));
  all.push_back(of_x("512x512x3, f32", ToRgbAttrs{}, {1, 512, 512, 3}, f32, u8));
}

// --- one of them ------------------------------------------------------------------------------------------------------

LayerAccesses count(const Layer& layer) {
  SparseCall call(layer.attrs, layer.in, layer.out);
  const KernelDef& kernel = call.kernel(layer.variant);
  // What is computed does not matter, where it is looked for does: tokens, and the rows of a table, are different ones.
  for (const Operand& o : layer.in)
    for (int64_t i = 0; o.dtype == i32 && kernel.op == OpKind::embedding && i < o.shape.elements(); ++i)
      call.call.in[o.slot].as<int32_t>()[i] = int32_t(i + 1);
  if (layer.moments) call.want_moments(kernel);
  simt::reports().clear();
  const std::string name = fmt::format("{} {}", op_def(kernel.op).name, layer.what);
  if (const char* reason = call.run(kernel)) throw std::runtime_error(fmt::format("{}: {}", name, reason));
  return {name, &kernel, simt::reports()};
}

}  // namespace

std::span<const AccessBar> access_bars() {
  static constexpr AccessBar kBars[] = {
      {"gemm_fma", "64x64x4", 1.04, 1.07,
       "four channels of bf16 are a quarter of a sector; transposed stores, as below"},
      {"gemm_fma", "", kWhole, 1.07,
       "a block's 16 of K are stored as columns, two to a bank: one store for eight loads"},
      {"matmul", "77", 1.22, 1.04, "rows of 77 numbers begin anywhere in a sector; transposed stores, as gemm_fma's"},
      {"matmul", "", kWhole, 1.07, "transposed stores, as gemm_fma's"},
      {"gemm_reduce_splits", "to 4", 1.8, kWhole, "sums of 4 columns lie in rows of 128: half of a sector each"},
      {"attention_flash_40", "", 1.23, kWhole,
       "rows of 40 are 80 bytes: every second head begins in the middle of a sector"},
      {"attention_flash_80", "", kWhole, 1.13,
       "rows of 10 chunks and a gap: eight copies that cross a row meet in a bank"},
      {"attention_flash_160", "", kWhole, 1.06, "as with rows of 80"},
      {"group_norm_combine", "", 1.03, kWhole, "the first number of each of a thread's groups"},
      {"group_norm_apply", "by moments", 1.42, kWhole,
       "as below; the moments that the others read for each block weigh less here, and are whole sectors"},
      {"group_norm_apply", "f32", 1.8, kWhole, "eight f32 to a thread are half sectors, the other half comes from L1"},
      {"group_norm_apply", "", 1.31, kWhole, "as with f32: gamma and beta, once for all pixels of a thread"},
      {"group_norm_statistics", "f32", 2.11, 2.01, "as with bf16, and half sectors of x"},
      {"group_norm_statistics", "", 1.19, 2.01,
       "the first number of each of a thread's groups; eight channels to a lane are two fours, 32 bytes from the next"},
      {"softmax", "x77", 1.24, kWhole, "rows of 77 numbers begin anywhere in a sector"},
      {"add", "of a sample", 1.5, kWhole, "f32 added to bf16, eight to a thread: only where a fusion is switched off"},
      {"loop_input", "+5", 1.07, kWhole, "4 of 9 channels from one tensor, 5 from another"},
  };
  return kBars;
}

const AccessBar* bar_of(std::string_view grid, std::string_view layer) {
  for (const AccessBar& bar : access_bars())
    if (grid.find(bar.grid) != grid.npos && layer.find(bar.layer) != layer.npos) return &bar;
  return nullptr;
}

std::vector<LayerAccesses> count_layers() {
  std::vector<Layer> layers;
  add_products(layers);
  add_attention(layers);
  add_rows(layers);
  add_loop(layers);
  simt::sample_blocks(kBlocks);
  std::vector<LayerAccesses> counted;
  for (const Layer& layer : layers) counted.push_back(count(layer));
  simt::sample_blocks(0);
  return counted;
}

}  // namespace darkroom::testing

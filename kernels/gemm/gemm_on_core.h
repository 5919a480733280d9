// gemm on any core of the frame (core/gemm_frame.h): rows of A as they lie.
#pragma once

#include "kernels/core/gemm_int8.h"
#include "kernels/core/reject.h"

namespace darkroom::gemm_on_core {

using namespace gemm_frame;
using namespace gemm_int8;

template <typename Core>
static const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.in[GemmAttrs::kA].dtype) || !is_activation_type(call.out.dtype))
    return "A and out must be f32 or bf16";
  if (!is_weight_type(call.in[GemmAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  if (call.attributes<GemmAttrs>().int8 != kInt8<Core>)
    return kInt8<Core> ? "products of int8 are not asked for" : "products of int8 are asked for";
  if (kInt8<Core> && call.in[GemmAttrs::kWeight].shape[1] > kMaxDepth) return "sums of int8 could overflow";
  return nullptr;
}

template <typename Core>
static size_t scratch_bytes(const KernelCall& call, int team) {
  return size_t(team) * scratch_bytes_per_member<Core>(call.in[GemmAttrs::kA].shape[-1]);
}

template <typename Core>
static size_t weight_bytes(const KernelCall& call) {
  const TensorView& weight = call.in[GemmAttrs::kWeight];
  const bool geglu = call.attributes<GemmAttrs>().epilogue.geglu;
  if constexpr (kInt8<Core>) return packed_bytes_int8<Core>(weight.shape[0], weight.shape[1], geglu, weight.dtype);
  return packed_bytes<Core>(weight.shape[0], weight.shape[1], geglu, weight.dtype);
}

template <typename Core>
static void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = call.in[GemmAttrs::kWeight];
  const bool geglu = call.attributes<GemmAttrs>().epilogue.geglu;
  if constexpr (kInt8<Core>)
    pack_panels_int8<Core>(parts, weight.shape[0], weight.shape[1], 1, geglu, weight.dtype, packed, team);
  else
    pack_panels<Core>(parts, weight.shape[0], weight.shape[1], 1, geglu, weight.dtype, packed, team);
}

template <typename Core>
static void launch(const KernelCall& call, const Team& team) {
  const Epilogue& epilogue = call.attributes<GemmAttrs>().epilogue;
  const TensorView& a = call.in[GemmAttrs::kA];
  const TensorView& weight = call.in[GemmAttrs::kWeight];
  const Product product = {.m = a.shape.rows(),
                           .k = weight.shape[1],
                           .panels = panels_of<Core>(weight.shape[0], epilogue.geglu),
                           .weight = call.packed,
                           .weight_type = weight.dtype};
  const Store store = {.out = call.out,
                       .bias = call.in[GemmAttrs::kBias],
                       .row_bias = call.in[GemmAttrs::kRowBias],
                       .residual = call.in[GemmAttrs::kResidual],
                       .rows_per_sample = a.rank() >= 2 ? a.shape.rows() / a.shape[0] : 1,
                       .activation = epilogue.activation,
                       .geglu = epilogue.geglu};
  if constexpr (kInt8<Core>) {
    QuantizedRows<Core> rows;
    rows.a = a;
    rows.channels = channels_of<Core>(product.weight, product.panels, product.k, product.weight_type);
    run<Core>(product, store, rows, call.scratch, team);
  } else {
    MatrixRows<Core> rows;
    rows.a = a;
    run<Core>(product, store, rows, call.scratch, team);
  }
}

}  // namespace darkroom::gemm_on_core

// gemm on AVX2: the shared core (gemm_core_avx2.h) over plain rows.
#include "kernels/core/gemm_core_avx2.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

using namespace gemm_avx2;

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.in[GemmAttrs::kA].dtype) || !is_activation_type(call.out.dtype))
    return "A and out must be f32 or bf16";
  if (!is_weight_type(call.in[GemmAttrs::kWeight].dtype)) return "the weight must be f32, f16 or bf16";
  return nullptr;
}

size_t scratch_bytes(const KernelCall& call, int team) {
  return size_t(team) * scratch_bytes_per_member(call.in[GemmAttrs::kA].shape[-1]);
}

size_t weight_bytes(const KernelCall& call) {
  const TensorView& weight = call.in[GemmAttrs::kWeight];
  return packed_bytes(weight.shape[0], weight.shape[1], call.attributes<GemmAttrs>().epilogue.geglu, weight.dtype);
}

void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = call.in[GemmAttrs::kWeight];
  pack_panels(parts, weight.shape[0], weight.shape[1], 1, call.attributes<GemmAttrs>().epilogue.geglu, weight.dtype,
              packed, team);
}

void launch(const KernelCall& call, const Team& team) {
  const Epilogue& epilogue = call.attributes<GemmAttrs>().epilogue;
  const TensorView& a = call.in[GemmAttrs::kA];
  const TensorView& weight = call.in[GemmAttrs::kWeight];
  const Product product = {.m = a.shape.rows(),
                           .k = weight.shape[1],
                           .panels = panels_of(weight.shape[0], epilogue.geglu),
                           .weight = call.packed,
                           .weight_type = weight.dtype};
  const Store store = {.out = call.out,
                       .bias = call.in[GemmAttrs::kBias],
                       .row_bias = call.in[GemmAttrs::kRowBias],
                       .residual = call.in[GemmAttrs::kResidual],
                       .rows_per_sample = a.rank() >= 2 ? a.shape.rows() / a.shape[0] : 1,
                       .activation = epilogue.activation,
                       .geglu = epilogue.geglu};
  MatrixRows rows;
  rows.a = a;
  run(product, store, rows, call.scratch, team);
}

}  // namespace

extern const KernelDef gemm_avx2_6x16;
const KernelDef gemm_avx2_6x16 = {
    .op = OpKind::gemm,
    .variant = "avx2_6x16",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = "panels_16",
    .packed_bytes = weight_bytes,
    .pack = pack,
    .launch = launch,
};

}  // namespace darkroom::kernels

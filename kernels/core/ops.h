// All ops, from ops.inc: their kinds, attributes, and what is true of an op whatever implements it.
#pragma once

#include <span>
#include <string_view>
#include <variant>

#include "kernels/attention/attention.h"
#include "kernels/conv2d/conv2d.h"
#include "kernels/core/tensor_view.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/gemm.h"
#include "kernels/group_norm/group_norm.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/loop/loop.h"
#include "kernels/softmax/softmax.h"
#include "kernels/timestep_embedding/timestep_embedding.h"
#include "kernels/to_rgb/to_rgb.h"
#include "kernels/upsample/upsample.h"

namespace darkroom {

enum class OpKind : int {
#define DARKROOM_OP(name, attrs, inputs, replaces) name,
#include "kernels/ops.inc"
#undef DARKROOM_OP
};

// Alternatives in the order of OpKind: index() is the kind.
using OpAttrs = std::variant<GemmAttrs, MatmulAttrs, Conv2dAttrs, NormConv2dAttrs, AttentionAttrs, GroupNormAttrs,
                             GroupNormSiluAttrs, GroupNormStatsAttrs, LayerNormAttrs, SoftmaxAttrs, UnaryAttrs,
                             AddAttrs, GegluAttrs, ConcatAttrs, UpsampleAttrs, EmbeddingAttrs, SelectRowsAttrs,
                             TimestepEmbeddingAttrs, LoopInputAttrs, LoopUpdateAttrs, LoopAdvanceAttrs, ToRgbAttrs>;

#define DARKROOM_OP(name, attrs, inputs, replaces) \
  static_assert(std::is_same_v<std::variant_alternative_t<size_t(OpKind::name), OpAttrs>, attrs>);
#include "kernels/ops.inc"
#undef DARKROOM_OP

inline OpKind op_kind(const OpAttrs& attrs) { return OpKind(int(attrs.index())); }

// How the runtime hands a weight to kernels.
enum class SlotRole : uint8_t {
  activation,  // memory of the plan, or bound from outside
  packed,      // a weight that the kernel packs at load (gemm, conv2d)
  vector,      // a small weight, given dense in f32 (bias, gamma, beta)
  table,       // a weight given as it is stored (embeddings)
};

inline constexpr int kMaxInputs = 9;

struct OpDef {
  OpKind kind;
  std::string_view name;
  int inputs;                 // slots, optional ones included
  std::string_view replaces;  // for a fused op, the primitive ops that it stands for

  SlotRole role(int slot) const;
};

std::span<const OpDef> all_ops();
const OpDef& op_def(OpKind kind);
// nullptr where there is no op of that name.
const OpDef* find_op(std::string_view name);

// Shape of the op's output. Empty slots are views with dtype none. Throws usage_error naming op and shapes where the
// operands do not fit together: kernels may rely on what this has checked.
Shape infer_shape(const OpAttrs& attrs, std::span<const TensorView> inputs);

// The least that the op must do, but for KernelCall::moments: FLOPs (2 × MAC; elementwise work counts 0) and bytes (each operand once).
struct Cost {
  double flops = 0;
  double bytes = 0;
};
Cost op_cost(const OpAttrs& attrs, std::span<const TensorView> inputs, const TensorView& output);

// "3x3 s1 +bias +row_bias silu", for plans and benchmarks.
std::string describe(const OpAttrs& attrs, std::span<const TensorView> inputs);

}  // namespace darkroom

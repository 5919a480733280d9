#include "kernels/core/ops.h"

#include <array>
#include <string>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

constexpr std::array kOps = {
#define DARKROOM_OP(name, attrs, inputs, replaces) OpDef{OpKind::name, #name, inputs, replaces},
#include "kernels/ops.inc"
#undef DARKROOM_OP
};

// Collects an op's operands for the checks below, and the words for when one of them fails.
class Operands {
 public:
  Operands(OpKind kind, std::span<const TensorView> in) : kind_(kind), in_(in) {}

  bool has(int slot) const { return size_t(slot) < in_.size() && in_[size_t(slot)].present(); }
  const Shape& shape(int slot) const { return in_[size_t(slot)].shape; }

  void need(int slot, const char* name, int min_rank, int max_rank) const {
    if (!has(slot)) fail(fmt::format("has no {}", name));
    const Shape& s = shape(slot);
    if (s.rank() < min_rank || s.rank() > max_rank)
      fail(fmt::format("{} {} has rank {}, wants {} to {}", name, s.to_string(), s.rank(), min_rank, max_rank));
    for (int i = 0; i < s.rank(); ++i)
      if (s[i] <= 0) fail(fmt::format("{} {} has an empty dimension", name, s.to_string()));
  }
  void want(int slot, const char* name, const Shape& expected) const {
    if (has(slot) && !(shape(slot) == expected))
      fail(fmt::format("{} is {}, wants {}", name, shape(slot).to_string(), expected.to_string()));
  }
  void ensure(bool ok, const char* what) const {
    if (!ok) fail(what);
  }
  [[noreturn]] void fail(const std::string& what) const {
    std::string shapes;
    for (const TensorView& v : in_) shapes += (shapes.empty() ? "" : ", ") + (v.present() ? v.shape.to_string() : "-");
    throw usage_error("{}({}): {}", op_def(kind_).name, shapes, what);
  }

 private:
  OpKind kind_;
  std::span<const TensorView> in_;
};

Shape with_channels(Shape s, int64_t channels) {
  s[-1] = channels;
  return s;
}

// Output channels of a GEMM-shaped op with N weight rows, after its epilogue's operands are checked.
Shape finish(const Operands& o, const Epilogue& e, Shape out, int64_t batch, int64_t n, int bias, int row_bias,
             int residual) {
  o.want(bias, "bias", Shape{n});
  o.want(row_bias, "row_bias", Shape{batch, n});
  if (e.geglu)
    o.ensure(n % 2 == 0 && e.activation == Activation::none,
             "geglu wants an even number of outputs and no other activation");
  out[-1] = e.geglu ? n / 2 : n;
  o.want(residual, "residual", out);
  return out;
}

Shape infer(const Operands& o, const GemmAttrs& a) {
  o.need(GemmAttrs::kA, "A", 2, 4);
  o.need(GemmAttrs::kWeight, "weight", 2, 2);
  const Shape& x = o.shape(GemmAttrs::kA);
  const Shape& w = o.shape(GemmAttrs::kWeight);
  o.ensure(x.channels() == w[1], "A's channels are not the weight's columns");
  return finish(o, a.epilogue, x, x[0], w[0], GemmAttrs::kBias, GemmAttrs::kRowBias, GemmAttrs::kResidual);
}

Shape infer(const Operands& o, const MatmulAttrs& a) {
  o.need(MatmulAttrs::kA, "A", 4, 4);
  o.need(MatmulAttrs::kB, "B", 4, 4);
  const Shape &x = o.shape(MatmulAttrs::kA), &y = o.shape(MatmulAttrs::kB);
  o.ensure(x[0] == y[0] && x[1] == y[1], "batch dimensions differ");
  o.ensure(x[3] == (a.transpose_b ? y[3] : y[2]), "inner dimensions differ");
  return {x[0], x[1], x[2], a.transpose_b ? y[2] : y[3]};
}

Shape infer(const Operands& o, const Conv2dAttrs& a) {
  using S = Conv2dAttrs;
  o.need(S::kX, "x", 4, 4);
  o.need(S::kWeight, "weight", 4, 4);
  o.ensure((a.kernel == 1 || a.kernel == 3) && (a.stride == 1 || a.stride == 2),
           "kernel must be 1 or 3, stride 1 or 2");
  o.ensure(a.pad_top >= 0 && a.pad_left >= 0 && a.pad_bottom >= 0 && a.pad_right >= 0 && a.pad_top < 3 &&
               a.pad_left < 3 && a.pad_bottom < 3 && a.pad_right < 3,
           "padding must be 0 to 2");
  const Shape& x = o.shape(S::kX);
  int64_t channels = x[3];
  if (o.has(S::kX2)) {
    o.want(S::kX2, "second source", with_channels(x, o.shape(S::kX2).channels()));
    channels += o.shape(S::kX2).channels();
  }
  const Shape& w = o.shape(S::kWeight);
  o.want(S::kWeight, "weight", Shape{w[0], channels, a.kernel, a.kernel});
  o.ensure((a.upsample_height > 0) == (a.upsample_width > 0), "upsample size is half given");
  const int64_t h = (a.upsample_height > 0 ? a.upsample_height : x[1]) + a.pad_top + a.pad_bottom - a.kernel;
  const int64_t v = (a.upsample_width > 0 ? a.upsample_width : x[2]) + a.pad_left + a.pad_right - a.kernel;
  o.ensure(h >= 0 && v >= 0, "the picture is smaller than the kernel");
  const Shape out{x[0], h / a.stride + 1, v / a.stride + 1, w[0]};
  return finish(o, a.epilogue, out, x[0], w[0], S::kBias, S::kRowBias, S::kResidual);
}

Shape infer(const Operands& o, const NormConv2dAttrs& a) {
  using S = NormConv2dAttrs;
  const Shape out = infer(o, static_cast<const Conv2dAttrs&>(a));
  o.need(S::kNorm, "norm", 3, 3);
  o.want(S::kNorm, "norm", Shape{out[0], 3, o.shape(S::kWeight)[1]});
  return out;
}

Shape infer(const Operands& o, const AttentionAttrs& a) {
  using S = AttentionAttrs;
  o.need(S::kQ, "q", 3, 3);
  o.need(S::kK, "k", 3, 3);
  o.need(S::kV, "v", 3, 3);
  const Shape &q = o.shape(S::kQ), &k = o.shape(S::kK);
  o.ensure(a.heads > 0 && q[2] % a.heads == 0, "channels are no multiple of the heads");
  o.ensure(k[0] == q[0] && k[2] == q[2], "k does not fit q");
  o.want(S::kV, "v", k);
  if (a.causal) o.ensure(q[1] == k[1], "causal wants as many keys as queries");
  return q;
}

Shape infer_group_norm(const Operands& o, const GroupNormAttrs& a) {
  using S = GroupNormAttrs;
  o.need(S::kX, "x", 2, 4);
  const Shape& x = o.shape(S::kX);
  int64_t channels = x.channels();
  if (o.has(S::kX2)) {
    o.want(S::kX2, "second source", with_channels(x, o.shape(S::kX2).channels()));
    channels += o.shape(S::kX2).channels();
  }
  o.ensure(a.groups > 0 && channels % a.groups == 0, "channels are no multiple of the groups");
  o.ensure(a.eps >= 0, "eps is negative");
  o.need(S::kGamma, "gamma", 1, 1);
  o.need(S::kBeta, "beta", 1, 1);
  o.want(S::kGamma, "gamma", Shape{channels});
  o.want(S::kBeta, "beta", Shape{channels});
  for (const auto& [source, moments] : {std::pair(S::kX, S::kMoments), std::pair(S::kX2, S::kMoments2)}) {
    o.ensure(o.has(moments) == (o.has(S::kMoments) && o.has(source)),
             "moments of one source come with those of the other");
    if (!o.has(moments)) continue;
    o.need(moments, "moments", 4, 4);
    o.want(moments, "moments", Shape{x[0], o.shape(moments)[1], 3, o.shape(source).channels()});
  }
  return with_channels(x, channels);
}
Shape infer(const Operands& o, const GroupNormAttrs& a) { return infer_group_norm(o, a); }
Shape infer(const Operands& o, const GroupNormSiluAttrs& a) { return infer_group_norm(o, a); }
Shape infer(const Operands& o, const GroupNormStatsAttrs& a) {
  const Shape normed = infer_group_norm(o, a);
  return {normed[0], 3, normed.channels()};
}

Shape infer(const Operands& o, const LayerNormAttrs&) {
  using S = LayerNormAttrs;
  o.need(S::kX, "x", 1, 4);
  o.need(S::kGamma, "gamma", 1, 1);
  o.need(S::kBeta, "beta", 1, 1);
  const Shape& x = o.shape(S::kX);
  o.want(S::kGamma, "gamma", Shape{x.channels()});
  o.want(S::kBeta, "beta", Shape{x.channels()});
  return x;
}

Shape infer(const Operands& o, const SoftmaxAttrs& a) {
  o.need(0, "x", a.causal ? 2 : 1, 4);
  return o.shape(0);
}

Shape infer(const Operands& o, const UnaryAttrs&) {
  o.need(0, "x", 1, 4);
  return o.shape(0);
}

Shape infer(const Operands& o, const AddAttrs&) {
  o.need(AddAttrs::kA, "a", 1, 4);
  o.need(AddAttrs::kB, "b", 1, 4);
  const Shape &a = o.shape(AddAttrs::kA), &b = o.shape(AddAttrs::kB);
  const bool broadcast = a.rank() > 2 && b == Shape{a[0], a.channels()};
  o.ensure(a == b || broadcast, "b is neither of a's shape nor one row per sample");
  return a;
}

Shape infer(const Operands& o, const GegluAttrs&) {
  o.need(0, "x", 1, 4);
  const Shape& x = o.shape(0);
  o.ensure(x.channels() % 2 == 0, "an odd number of channels has no halves");
  return with_channels(x, x.channels() / 2);
}

Shape infer(const Operands& o, const ConcatAttrs&) {
  o.need(0, "x1", 1, 4);
  const Shape& x = o.shape(0);
  int64_t channels = 0;
  for (int i = 0; i < op_def(OpKind::concat).inputs && o.has(i); ++i) {
    o.want(i, "input", with_channels(x, o.shape(i).channels()));
    channels += o.shape(i).channels();
  }
  return with_channels(x, channels);
}

Shape infer(const Operands& o, const UpsampleAttrs& a) {
  o.need(0, "x", 4, 4);
  o.ensure(a.height > 0 && a.width > 0, "no target size");
  const Shape& x = o.shape(0);
  return {x[0], a.height, a.width, x[3]};
}

Shape infer(const Operands& o, const EmbeddingAttrs&) {
  using S = EmbeddingAttrs;
  o.need(S::kIds, "ids", 2, 2);
  o.need(S::kTable, "table", 2, 2);
  const Shape &ids = o.shape(S::kIds), &table = o.shape(S::kTable);
  if (o.has(S::kPositions)) {
    o.need(S::kPositions, "positions", 2, 2);
    const Shape& p = o.shape(S::kPositions);
    o.ensure(p[1] == table[1] && p[0] >= ids[1], "the position table does not fit");
  }
  return {ids[0], ids[1], table[1]};
}

Shape infer(const Operands& o, const SelectRowsAttrs&) {
  using S = SelectRowsAttrs;
  o.need(S::kX, "x", 3, 3);
  o.need(S::kIndex, "index", 1, 1);
  const Shape& x = o.shape(S::kX);
  o.want(S::kIndex, "index", Shape{x[0]});
  return {x[0], x[2]};
}

Shape infer(const Operands& o, const TimestepEmbeddingAttrs& a) {
  o.need(0, "t", 1, 2);
  o.ensure(a.dim > 0 && a.dim % 2 == 0, "dim must be even");
  const Shape& t = o.shape(0);
  return t.rank() == 1 ? Shape{t[0], a.dim} : Shape{t[0], t[1] * a.dim};
}

// What all ops of the loop read: the table, and which row of it is meant.
void need_calls(const Operands& o, int calls, int index) {
  o.need(calls, "calls", 2, 2);
  o.ensure(o.shape(calls)[1] == kLoopCallWords, "a row of calls is no LoopCall");
  o.need(index, "index", 1, 1);
  o.want(index, "index", Shape{1});
}

Shape infer(const Operands& o, const LoopInputAttrs& a) {
  using S = LoopInputAttrs;
  need_calls(o, S::kCalls, S::kIndex);
  o.need(S::kSlots, "slots", 4, 4);
  o.ensure(a.batch > 0, "the batch must be positive");
  const Shape& slots = o.shape(S::kSlots);
  int64_t channels = slots[3];
  if (o.has(S::kExtra)) {
    o.need(S::kExtra, "extra", 3, 3);
    o.want(S::kExtra, "extra", Shape{slots[1], slots[2], o.shape(S::kExtra)[2]});
    channels += o.shape(S::kExtra)[2];
  }
  return {a.batch, slots[1], slots[2], channels};
}

Shape infer(const Operands& o, const LoopUpdateAttrs&) {
  using S = LoopUpdateAttrs;
  need_calls(o, S::kCalls, S::kIndex);
  o.need(S::kSlots, "slots", 4, 4);
  const Shape& slots = o.shape(S::kSlots);
  o.ensure(slots[0] > kLoopNoise && slots[0] <= LoopCall::kMaxSlots, "there must be 3 to 8 slots");
  o.need(S::kModel, "model", 4, 4);
  o.ensure(o.shape(S::kModel)[0] <= 2, "the batch must be 1 or 2");
  o.want(S::kModel, "model", Shape{o.shape(S::kModel)[0], slots[1], slots[2], slots[3]});
  o.ensure(o.has(S::kKeep) == o.has(S::kImage) && o.has(S::kKeep) == o.has(S::kStart),
           "keep, image and start come together");
  for (const int slot : {S::kKeep, S::kImage, S::kStart})
    if (o.has(slot)) o.want(slot, "keep, image or start", Shape{slots[1], slots[2], slots[3]});
  return slots;
}

Shape infer(const Operands& o, const LoopAdvanceAttrs&) {
  o.need(LoopAdvanceAttrs::kIndex, "index", 1, 1);
  o.want(LoopAdvanceAttrs::kIndex, "index", Shape{1});
  return {1};
}

Shape infer(const Operands& o, const ToRgbAttrs&) {
  o.need(ToRgbAttrs::kX, "x", 1, 4);
  return o.shape(ToRgbAttrs::kX);
}

double matrix_flops(const OpAttrs& attrs, std::span<const TensorView> in, const TensorView& out) {
  switch (op_kind(attrs)) {
    case OpKind::gemm: {
      const Shape& w = in[GemmAttrs::kWeight].shape;
      return 2.0 * double(in[GemmAttrs::kA].rows()) * double(w[0]) * double(w[1]);
    }
    case OpKind::conv2d:
    case OpKind::norm_conv2d: {
      const Shape& w = in[Conv2dAttrs::kWeight].shape;
      return 2.0 * double(out.rows()) * double(w.elements());
    }
    case OpKind::matmul:
      return 2.0 * double(out.shape.elements()) * double(in[0].channels());
    case OpKind::attention: {
      const Shape &q = in[0].shape, &k = in[1].shape;
      return 4.0 * double(q.elements()) * double(k[1]) * (std::get<AttentionAttrs>(attrs).causal ? 0.5 : 1.0);
    }
    default:
      return 0.0;
  }
}

std::string describe_epilogue(const Epilogue& e, std::span<const TensorView> in, int bias, int row_bias, int residual) {
  const auto has = [&](int slot) { return size_t(slot) < in.size() && in[size_t(slot)].present(); };
  std::string s;
  if (has(bias)) s += " +bias";
  if (has(row_bias)) s += " +row_bias";
  if (e.geglu) s += " geglu";
  if (e.activation != Activation::none) s += std::string(" ") + activation_name(e.activation);
  if (has(residual)) s += " +residual";
  return s;
}

std::string describe_conv2d(const Conv2dAttrs& a, std::span<const TensorView> in) {
  std::string s = fmt::format("{0}x{0} s{1}{2}", a.kernel, a.stride, a.int8 ? " int8" : "");
  if (a.pad_top != a.pad_bottom || a.pad_left != a.pad_right) s += " asymmetric";
  if (a.upsample_height > 0) s += " upsampled";
  if (in.size() > Conv2dAttrs::kX2 && in[Conv2dAttrs::kX2].present()) s += " two sources";
  return s + describe_epilogue(a.epilogue, in, Conv2dAttrs::kBias, Conv2dAttrs::kRowBias, Conv2dAttrs::kResidual);
}

}  // namespace

SlotRole OpDef::role(int slot) const {
  switch (kind) {
    case OpKind::gemm:
      if (slot == GemmAttrs::kWeight) return SlotRole::packed;
      if (slot == GemmAttrs::kBias) return SlotRole::vector;
      break;
    case OpKind::conv2d:
    case OpKind::norm_conv2d:
      if (slot == Conv2dAttrs::kWeight) return SlotRole::packed;
      if (slot == Conv2dAttrs::kBias) return SlotRole::vector;
      break;
    case OpKind::group_norm:
    case OpKind::group_norm_silu:
    case OpKind::group_norm_stats:
      if (slot == GroupNormAttrs::kGamma || slot == GroupNormAttrs::kBeta) return SlotRole::vector;
      break;
    case OpKind::layer_norm:
      if (slot == LayerNormAttrs::kGamma || slot == LayerNormAttrs::kBeta) return SlotRole::vector;
      break;
    case OpKind::embedding:
      if (slot == EmbeddingAttrs::kTable || slot == EmbeddingAttrs::kPositions) return SlotRole::table;
      break;
    default:
      break;
  }
  return SlotRole::activation;
}

std::span<const OpDef> all_ops() { return kOps; }
const OpDef& op_def(OpKind kind) { return kOps[size_t(kind)]; }

const OpDef* find_op(std::string_view name) {
  for (const OpDef& op : kOps)
    if (op.name == name) return &op;
  return nullptr;
}

Shape infer_shape(const OpAttrs& attrs, std::span<const TensorView> inputs) {
  const Operands operands(op_kind(attrs), inputs);
  return std::visit([&](const auto& a) { return infer(operands, a); }, attrs);
}

Cost op_cost(const OpAttrs& attrs, std::span<const TensorView> inputs, const TensorView& output) {
  Cost cost;
  cost.flops = matrix_flops(attrs, inputs, output);
  const auto bytes = [](const TensorView& v) { return double(v.shape.elements()) * double(dtype_size(v.dtype)); };
  cost.bytes = bytes(output);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].present()) continue;
    // Statistics that come from moments need no x.
    const bool only_moments = op_kind(attrs) == OpKind::group_norm_stats && inputs.size() > GroupNormAttrs::kMoments &&
                              inputs[GroupNormAttrs::kMoments].present();
    if (only_moments && (i == GroupNormAttrs::kX || i == GroupNormAttrs::kX2)) continue;
    // Of a table only the rows that are looked up are read.
    const bool table = op_def(op_kind(attrs)).role(int(i)) == SlotRole::table;
    cost.bytes += table ? double(output.shape.elements()) * double(dtype_size(inputs[i].dtype)) : bytes(inputs[i]);
  }
  return cost;
}

std::string describe(const OpAttrs& attrs, std::span<const TensorView> in) {
  const auto describe_norm = [&](const GroupNormAttrs& a) {
    const bool given = in.size() > GroupNormAttrs::kMoments && in[GroupNormAttrs::kMoments].present();
    return fmt::format("{} groups{}", a.groups, given ? " by moments" : "");
  };
  switch (op_kind(attrs)) {
    case OpKind::gemm:
      return (std::get<GemmAttrs>(attrs).int8 ? "linear int8" : "linear") +
             describe_epilogue(std::get<GemmAttrs>(attrs).epilogue, in, GemmAttrs::kBias, GemmAttrs::kRowBias,
                               GemmAttrs::kResidual);
    case OpKind::conv2d:
      return describe_conv2d(std::get<Conv2dAttrs>(attrs), in);
    case OpKind::norm_conv2d: {
      const auto& a = std::get<NormConv2dAttrs>(attrs);
      const bool activated = a.norm_activation != Activation::none;
      return fmt::format("norm {}{}", activated ? activation_name(a.norm_activation) + std::string(" ") : "",
                         describe_conv2d(a, in));
    }
    case OpKind::matmul:
      return std::get<MatmulAttrs>(attrs).transpose_b ? "A Bᵀ" : "A B";
    case OpKind::attention: {
      const auto& a = std::get<AttentionAttrs>(attrs);
      return fmt::format("{} heads{}", a.heads, a.causal ? " causal" : "");
    }
    case OpKind::group_norm:
      return describe_norm(std::get<GroupNormAttrs>(attrs));
    case OpKind::group_norm_silu:
      return describe_norm(std::get<GroupNormSiluAttrs>(attrs));
    case OpKind::group_norm_stats:
      return describe_norm(std::get<GroupNormStatsAttrs>(attrs));
    case OpKind::unary: {
      const auto& a = std::get<UnaryAttrs>(attrs);
      std::string s = a.activation == Activation::none ? "" : activation_name(a.activation);
      if (a.scale != 1.0f) s += fmt::format("{}x{}", s.empty() ? "" : " ", a.scale);
      return s.empty() ? "copy" : s;
    }
    case OpKind::softmax:
      return std::get<SoftmaxAttrs>(attrs).causal ? "causal" : "";
    default:
      return "";
  }
}

}  // namespace darkroom

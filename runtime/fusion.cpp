#include "runtime/fusion.h"

#include <algorithm>

#include "kernels/core/error.h"
#include "runtime/graph_edit.h"
#include "runtime/plan.h"
#include "runtime/share_samples.h"

namespace darkroom {

namespace {

int fuse_group_norm_silu(Graph& graph) {
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    const auto* act = edit.as<UnaryAttrs>(n);
    if (!act || act->activation != Activation::silu || act->scale != 1.0f) continue;
    const ValueId x = edit.node(n).inputs[UnaryAttrs::kX];
    const NodeId norm = edit.producer(x);
    const auto* attrs = edit.as<GroupNormAttrs>(norm);
    if (!attrs || edit.uses(x) != 1) continue;
    GroupNormSiluAttrs fused;
    static_cast<GroupNormAttrs&>(fused) = *attrs;
    edit.node(norm).attrs = fused;
    edit.take_over(norm, n);
    ++count;
  }
  edit.finish();
  return count;
}

Epilogue* epilogue_of(GraphEdit& edit, NodeId n) {
  if (auto* gemm = edit.as<GemmAttrs>(n)) return &gemm->epilogue;
  if (auto* conv = edit.as<Conv2dAttrs>(n)) return &conv->epilogue;
  return nullptr;
}
struct EpilogueSlots {
  int row_bias, residual;
};
EpilogueSlots slots_of(const Node& node) {
  return node.kind() == OpKind::gemm ? EpilogueSlots{GemmAttrs::kRowBias, GemmAttrs::kResidual}
                                     : EpilogueSlots{Conv2dAttrs::kRowBias, Conv2dAttrs::kResidual};
}

// x → activation, where x comes from a gemm or conv that nobody else reads.
bool fuse_activation(GraphEdit& edit, NodeId n, OpKind op) {
  const auto* act = edit.as<UnaryAttrs>(n);
  if (!act || act->activation == Activation::none || act->scale != 1.0f) return false;
  const ValueId source = edit.sole_source(edit.node(n).inputs[UnaryAttrs::kX]);
  const NodeId producer = edit.producer(source);
  Epilogue* epilogue = epilogue_of(edit, producer);
  if (!epilogue || edit.node(producer).kind() != op) return false;
  if (epilogue->activation != Activation::none || epilogue->geglu) return false;
  if (edit.node(producer).inputs[size_t(slots_of(edit.node(producer)).residual)] != kNoValue) return false;
  epilogue->activation = act->activation;
  edit.take_over(producer, n);
  return true;
}

// a + b with one of them from a gemm or conv that nobody else reads: a row bias where b is one row a sample, else a residual.
bool fuse_add(GraphEdit& edit, NodeId n, OpKind op) {
  if (!edit.as<AddAttrs>(n)) return false;
  Graph& graph = edit.graph();
  const std::vector<ValueId> operands = edit.node(n).inputs;
  const DType out = graph.value(edit.node(n).output).dtype;
  for (const int side : {AddAttrs::kA, AddAttrs::kB}) {
    const ValueId mine = operands[size_t(side)];
    ValueId other = operands[size_t(1 - side)];
    const ValueId source = edit.sole_source(mine);
    const NodeId producer = edit.producer(source);
    Epilogue* epilogue = epilogue_of(edit, producer);
    if (!epilogue || edit.node(producer).kind() != op || epilogue->geglu) continue;
    Node& node = edit.node(producer);
    const EpilogueSlots slots = slots_of(node);
    // A result of the graph has memory of its own: it cannot become a window onto one of another shape.
    const ValueId result = edit.node(n).output;
    if (edit.is_output(result) && !(graph.shape(source) == graph.shape(result))) continue;
    if (node.inputs[size_t(slots.residual)] != kNoValue) continue;
    const bool per_sample = !(graph.shape(other) == graph.shape(mine));
    if (per_sample) {
      if (side != AddAttrs::kA || epilogue->activation != Activation::none) continue;
      if (node.inputs[size_t(slots.row_bias)] != kNoValue || graph.value(other).dtype != DType::f32) continue;
      if (graph.value(source).dtype != out) continue;
      node.inputs[size_t(slots.row_bias)] = other;
    } else {
      if (graph.value(other).dtype != out || graph.value(source).dtype != out) continue;
      if (!(graph.shape(source) == graph.shape(other))) other = graph.reshape(other, graph.shape(source));
      node.inputs[size_t(slots.residual)] = other;
    }
    edit.take_over(producer, n);
    return true;
  }
  return false;
}

template <OpKind kOp>
int fuse_epilogue(Graph& graph) {
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n)
    if (!edit.erased(n) && (fuse_activation(edit, n, kOp) || fuse_add(edit, n, kOp))) ++count;
  edit.finish();
  return count;
}

int fuse_geglu(Graph& graph) {
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    if (!edit.as<GegluAttrs>(n)) continue;
    const ValueId x = edit.node(n).inputs[GegluAttrs::kX];
    const NodeId producer = edit.producer(x);
    auto* gemm = edit.as<GemmAttrs>(producer);
    if (!gemm || edit.uses(x) != 1 || gemm->epilogue.activation != Activation::none || gemm->epilogue.geglu) continue;
    if (edit.node(producer).inputs[GemmAttrs::kResidual] != kNoValue) continue;
    gemm->epilogue.geglu = true;
    edit.take_over(producer, n);
    ++count;
  }
  edit.finish();
  return count;
}

// Projections of one source that meet in one attention become one gemm over stacked weights; each is a slice of its result.
int pack_projections(Graph& graph) {
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    if (!edit.as<AttentionAttrs>(n)) continue;
    const std::vector<ValueId> operands = edit.node(n).inputs;
    const auto projection = [&](ValueId v) -> NodeId {
      const NodeId p = edit.producer(v);
      const auto* gemm = edit.as<GemmAttrs>(p);
      const bool plain = gemm && gemm->epilogue == Epilogue{} &&
                         edit.node(p).inputs[GemmAttrs::kResidual] == kNoValue &&
                         edit.node(p).inputs[GemmAttrs::kRowBias] == kNoValue;
      return plain && edit.uses(v) == 1 && !edit.has_views(v) ? p : -1;
    };
    const NodeId q = projection(operands[0]), k = projection(operands[1]), v = projection(operands[2]);
    const auto fits = [&](NodeId a, NodeId b) {
      if (a < 0 || b < 0) return false;
      const Node &na = edit.node(a), &nb = edit.node(b);
      const auto has_bias = [](const Node& x) { return x.inputs[GemmAttrs::kBias] != kNoValue; };
      return na.inputs[GemmAttrs::kA] == nb.inputs[GemmAttrs::kA] && has_bias(na) == has_bias(nb) &&
             graph.value(na.output).dtype == graph.value(nb.output).dtype &&
             graph.value(na.inputs[GemmAttrs::kWeight]).dtype == graph.value(nb.inputs[GemmAttrs::kWeight]).dtype;
    };
    std::vector<NodeId> members;
    if (fits(k, v)) members = fits(q, k) ? std::vector{q, k, v} : std::vector{k, v};
    if (members.empty()) continue;

    const auto stack = [&](int slot) {
      Value stacked = graph.value(edit.node(members[0]).inputs[size_t(slot)]);
      for (size_t i = 1; i < members.size(); ++i) {
        const Value& part = graph.value(edit.node(members[i]).inputs[size_t(slot)]);
        stacked.shape[0] += part.shape[0];
        stacked.parts.insert(stacked.parts.end(), part.parts.begin(), part.parts.end());
        stacked.name += " + " + part.name;
      }
      graph.mutable_values().push_back(std::move(stacked));
      return ValueId(graph.values().size() - 1);
    };
    const ValueId weight = stack(GemmAttrs::kWeight);
    const bool biased = edit.node(members[0]).inputs[GemmAttrs::kBias] != kNoValue;
    const ValueId bias = biased ? stack(GemmAttrs::kBias) : kNoValue;

    // The first projection's node computes all; its result is a new value, onto which the old ones become slices.
    Node& first = edit.node(members[0]);
    Value whole = graph.value(first.output);
    whole.shape[-1] = graph.shape(weight)[0];
    graph.mutable_values().push_back(whole);
    const ValueId packed = ValueId(graph.values().size() - 1);
    const TensorView window = graph.view(packed);
    int64_t begin = 0;
    for (NodeId m : members) {
      Value& slice = edit.value(edit.node(m).output);
      slice.kind = ValueKind::view;
      slice.producer = -1;
      slice.view = {packed, begin, window.stride};
      begin += slice.shape.channels();
      first.provenance.push_back(edit.node(m).name);
      if (m != members[0]) edit.erase(m);
    }
    first.name += members.size() == 3 ? "+k+v" : "+v";
    first.inputs[GemmAttrs::kWeight] = weight;
    first.inputs[GemmAttrs::kBias] = bias;
    first.output = packed;
    ++count;
  }
  edit.finish();
  return count;
}

int fold_upsample(Graph& graph) {
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    auto* conv = edit.as<Conv2dAttrs>(n);
    if (!conv || edit.node(n).inputs[Conv2dAttrs::kX2] != kNoValue || conv->upsample_height != 0) continue;
    const ValueId x = edit.node(n).inputs[Conv2dAttrs::kX];
    const NodeId producer = edit.producer(x);
    const auto* upsample = edit.as<UpsampleAttrs>(producer);
    if (!upsample || edit.uses(x) != 1) continue;
    conv->upsample_height = upsample->height;
    conv->upsample_width = upsample->width;
    edit.node(n).inputs[Conv2dAttrs::kX] = edit.node(producer).inputs[UpsampleAttrs::kX];
    edit.node(n).provenance = {edit.node(producer).name, edit.node(n).name};
    edit.erase(producer);
    ++count;
  }
  edit.finish();
  return count;
}

// A concat of two whose readers all take a second source is never made.
int read_two_sources(Graph& graph) {
  GraphEdit edit(graph);
  int count = 0;
  // The slot of a second source, where the node reads `v` as its first and has room for one.
  const auto second_slot = [&](NodeId n, ValueId v) -> int {
    const Node& node = edit.node(n);
    if (node.inputs[0] != v || std::ranges::count(node.inputs, v) != 1) return -1;
    if (const auto* conv = edit.as<Conv2dAttrs>(n)) return conv->upsample_height == 0 ? int(Conv2dAttrs::kX2) : -1;
    if (edit.as<GroupNormAttrs>(n) || edit.as<GroupNormSiluAttrs>(n)) return GroupNormAttrs::kX2;
    return -1;
  };
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    if (!edit.as<ConcatAttrs>(n)) continue;
    const Node concat = edit.node(n);
    if (std::ranges::count_if(concat.inputs, [](ValueId v) { return v != kNoValue; }) != 2) continue;
    if (edit.has_views(concat.output) || edit.is_output(concat.output)) continue;
    const std::vector<NodeId> readers = edit.readers(concat.output);
    const bool all = std::ranges::all_of(readers, [&](NodeId r) {
      const int slot = second_slot(r, concat.output);
      return slot >= 0 && edit.node(r).inputs[size_t(slot)] == kNoValue;
    });
    if (readers.empty() || !all) continue;
    for (NodeId r : readers) {
      Node& reader = edit.node(r);
      reader.inputs[size_t(second_slot(r, concat.output))] = concat.inputs[1];
      reader.inputs[0] = concat.inputs[0];
      if (reader.provenance.empty()) reader.provenance.push_back(reader.name);
      reader.provenance.push_back(concat.name);
    }
    edit.erase(n);
    ++count;
  }
  edit.finish();
  return count;
}

// A concat whose operands are written where they belong in it: each producer gets rows as wide as the whole.
int concat_in_place(Graph& graph) {
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    if (!edit.as<ConcatAttrs>(n)) continue;
    const Node concat = edit.node(n);
    if (edit.is_output(concat.output)) continue;
    std::vector<ValueId> operands;
    for (ValueId v : concat.inputs)
      if (v != kNoValue) operands.push_back(v);
    const bool all = std::ranges::all_of(operands, [&](ValueId v) {
      const NodeId producer = edit.producer(v);
      return producer >= 0 && edit.value(v).view.base == kNoValue && !edit.has_views(v) && !edit.is_output(v) &&
             edit.value(v).dtype == edit.value(concat.output).dtype && std::ranges::count(operands, v) == 1;
    });
    if (!all) continue;
    const TensorView whole = graph.view(concat.output);
    int64_t begin = 0;
    for (ValueId v : operands) {
      edit.value(v).view = {concat.output, begin, whole.stride};
      begin += graph.shape(v).channels();
      Node& producer = edit.node(edit.producer(v));
      if (producer.provenance.empty()) producer.provenance.push_back(producer.name);
      producer.provenance.push_back(concat.name);
    }
    edit.value(concat.output).kind = ValueKind::assembled;
    edit.value(concat.output).name = concat.name;
    edit.erase(n);
    ++count;
  }
  edit.finish();
  return count;
}

// The call that the plan will have. Types of weights are not known before the weights are: any will do.
KernelCall planned_call(const Graph& graph, const Node& node) {
  KernelCall call = kernel_call(graph, node);
  TensorView& weight = call.in[Conv2dAttrs::kWeight];
  if (!weight.present()) weight.dtype = DType::f32;
  return call;
}

// The convolution with its norm applied as it reads, where the kernel that would run it alone can do so; else an empty node.
// `norm` is where group_norm_stats will leave its result.
Node with_norm(GraphEdit& edit, NodeId conv, NodeId group_norm, ValueId norm, const SelectOptions& kernels) {
  Graph& graph = edit.graph();
  const Node &plain = edit.node(conv), &before = edit.node(group_norm);
  Node fused = plain;
  NormConv2dAttrs attrs;
  static_cast<Conv2dAttrs&>(attrs) = *edit.as<Conv2dAttrs>(conv);
  if (edit.as<GroupNormSiluAttrs>(group_norm)) attrs.norm_activation = Activation::silu;
  fused.attrs = attrs;
  fused.inputs.resize(NormConv2dAttrs::kNorm + 1, kNoValue);
  fused.inputs[Conv2dAttrs::kX] = before.inputs[GroupNormAttrs::kX];
  fused.inputs[Conv2dAttrs::kX2] = before.inputs[GroupNormAttrs::kX2];
  fused.inputs[NormConv2dAttrs::kNorm] = norm;
  const KernelDef* alone = select_kernel(planned_call(graph, plain), kernels, plain.name).kernel;
  const KernelDef* with = find_kernel(OpKind::norm_conv2d, alone->variant);
  if (!with || with->isa == Isa::baseline || with->reject(planned_call(graph, fused))) return {};
  if (fused.provenance.empty()) fused.provenance.push_back(fused.name);
  fused.provenance.push_back(before.name);
  return fused;
}

// group_norm → convolutions that apply it as they read: the normalised picture is never written.
int fuse_norm_conv(Graph& graph, const SelectOptions& kernels) {
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    const GroupNormAttrs* attrs = edit.as<GroupNormAttrs>(n);
    if (!attrs) attrs = edit.as<GroupNormSiluAttrs>(n);
    if (!attrs) continue;
    const ValueId normed = edit.node(n).output;
    if (edit.is_output(normed) || edit.has_views(normed) || graph.value(normed).view.base != kNoValue) continue;
    const std::vector<NodeId> readers = edit.readers(normed);
    Value statistics;
    statistics.shape = Shape{graph.shape(normed)[0], 3, graph.shape(normed).channels()};
    statistics.dtype = DType::f32;
    statistics.producer = n;
    graph.mutable_values().push_back(statistics);
    const ValueId norm = ValueId(graph.values().size() - 1);
    std::vector<Node> fused;
    for (NodeId r : readers) {
      const bool fits = edit.as<Conv2dAttrs>(r) && edit.node(r).inputs[Conv2dAttrs::kX] == normed &&
                        std::ranges::count(edit.node(r).inputs, normed) == 1 &&
                        edit.node(r).inputs[Conv2dAttrs::kX2] == kNoValue;
      if (fits) fused.push_back(with_norm(edit, r, n, norm, kernels));
      if (!fits || fused.back().output == kNoValue) break;
    }
    if (readers.empty() || fused.size() != readers.size() || fused.back().output == kNoValue) continue;
    for (size_t i = 0; i < readers.size(); ++i) edit.node(readers[i]) = std::move(fused[i]);
    GroupNormStatsAttrs stats;
    static_cast<GroupNormAttrs&>(stats) = *attrs;
    edit.node(n).attrs = stats;
    edit.node(n).output = norm;
    ++count;
  }
  edit.finish();
  return count;
}

// In how many slabs node n can leave moments of what it stores: 0 where it is no convolution, or its kernel cannot.
int64_t slabs_of(GraphEdit& edit, NodeId n, const SelectOptions& kernels) {
  if (!edit.as<Conv2dAttrs>(n) && !edit.as<NormConv2dAttrs>(n)) return 0;
  const KernelCall call = planned_call(edit.graph(), edit.node(n));
  if (call.moments.present()) return call.moments.shape[1];
  const KernelDef* kernel = select_kernel(call, kernels, edit.node(n).name).kernel;
  return kernel->moments_slabs ? kernel->moments_slabs(call) : 0;
}

// The moments of what node n stores; it leaves them from now on.
ValueId moments_of(GraphEdit& edit, NodeId n, int64_t slabs) {
  Graph& graph = edit.graph();
  if (edit.node(n).moments != kNoValue) return edit.node(n).moments;
  const Shape& out = graph.shape(edit.node(n).output);
  Value moments;
  moments.shape = Shape{out[0], slabs, 3, out.channels()};
  moments.dtype = DType::f32;
  moments.producer = n;
  graph.mutable_values().push_back(std::move(moments));
  return edit.node(n).moments = ValueId(graph.values().size() - 1);
}

// group_norm of what convolutions have stored, where all of them can leave moments: the statistics then need no reading of x.
int fuse_moments(Graph& graph, const SelectOptions& kernels) {
  struct Source {
    NodeId producer;
    int slot;
    int64_t slabs;
  };
  GraphEdit edit(graph);
  int count = 0;
  for (NodeId n = 0; n < edit.nodes(); ++n) {
    if (!edit.as<GroupNormAttrs>(n) && !edit.as<GroupNormSiluAttrs>(n) && !edit.as<GroupNormStatsAttrs>(n)) continue;
    std::vector<Source> sources;
    for (const auto& [x, slot] : {std::pair(GroupNormAttrs::kX, GroupNormAttrs::kMoments),
                                  std::pair(GroupNormAttrs::kX2, GroupNormAttrs::kMoments2)})
      if (const ValueId v = edit.node(n).inputs[size_t(x)]; v != kNoValue)
        sources.push_back({edit.producer(v), slot, slabs_of(edit, edit.producer(v), kernels)});
    if (std::ranges::any_of(sources, [](const Source& s) { return s.slabs == 0; })) continue;
    for (const Source& s : sources) {
      edit.node(n).inputs[size_t(s.slot)] = moments_of(edit, s.producer, s.slabs);
      Node& producer = edit.node(s.producer);
      if (producer.provenance.empty()) producer.provenance.push_back(producer.name);
      producer.provenance.push_back(edit.node(n).name);
    }
    ++count;
  }
  edit.finish();
  return count;
}

int count_attention(Graph& graph) {
  return int(std::ranges::count_if(graph.nodes(), [](const Node& n) { return n.kind() == OpKind::attention; }));
}

// softmax(scale · Q Kᵀ) V in three steps, with the whole N×M matrix in memory: what attention() stands for.
int lower_attention(Graph& graph) {
  const std::vector<Node> nodes = std::move(graph.mutable_nodes());
  graph.mutable_nodes().clear();
  int count = 0;
  for (const Node& node : nodes) {
    const auto* attrs = std::get_if<AttentionAttrs>(&node.attrs);
    if (!attrs) {
      for (ValueId v : {node.output, node.moments})
        if (v != kNoValue) graph.mutable_values()[size_t(v)].producer = NodeId(graph.nodes().size());
      graph.mutable_nodes().push_back(node);
      continue;
    }
    const ValueId q = graph.split_heads(node.inputs[AttentionAttrs::kQ], attrs->heads);
    const ValueId k = graph.split_heads(node.inputs[AttentionAttrs::kK], attrs->heads);
    const ValueId v = graph.split_heads(node.inputs[AttentionAttrs::kV], attrs->heads);
    MatmulAttrs scores;
    scores.alpha = attrs->scale;
    scores.transpose_b = true;
    const DType dtype = graph.value(node.output).dtype;
    const ValueId s = graph.add(node.name + ".scores", scores, {q, k}, dtype);
    SoftmaxAttrs softmax;
    softmax.causal = attrs->causal;
    const ValueId p = graph.add(node.name + ".softmax", softmax, {s}, dtype);
    const ValueId heads = graph.add(node.name + ".values", MatmulAttrs{}, {p, v}, dtype);
    // The heads are written side by side: the result is assembled from one part with the strides of its heads.
    const ValueId window = graph.split_heads(node.output, attrs->heads);
    graph.mutable_values()[size_t(heads)].view = graph.value(window).view;
    Value& whole = graph.mutable_values()[size_t(node.output)];
    whole.kind = ValueKind::assembled;
    whole.name = node.name;
    whole.producer = -1;
    ++count;
  }
  graph.check();
  return count;
}

constexpr FusionPass kPasses[] = {
    {"shared_samples", "what is the same for all samples, as before the first cross-attention, is computed once",
     share_samples, nullptr},
    {"packed_qkv", "projections of one source that meet in an attention run as one gemm", pack_projections, nullptr},
    {"group_norm_silu", "silu is applied as group_norm stores", fuse_group_norm_silu, nullptr},
    {"geglu", "the feed-forward's gate is applied as its gemm stores", fuse_geglu, nullptr},
    {"gemm_epilogue", "activation, time embedding and residual are applied as a gemm stores",
     fuse_epilogue<OpKind::gemm>, nullptr},
    {"conv_epilogue", "activation, time embedding and residual are applied as a convolution stores",
     fuse_epilogue<OpKind::conv2d>, nullptr},
    {"upsample_conv", "a convolution reads the small picture as if it were enlarged", fold_upsample, nullptr},
    {"two_sources", "norms and convolutions read both halves of a concat where they lie", read_two_sources, nullptr},
    {"concat_in_place", "the producers of a concat write into it", concat_in_place, nullptr},
    {"norm_conv", "a convolution applies its group_norm and silu as it reads", nullptr, nullptr, fuse_norm_conv},
    {"conv_moments", "a convolution leaves the moments of what it stores to the group_norm behind it", nullptr, nullptr,
     fuse_moments},
    {"attention", "softmax(QKᵀ)V in tiles, never the whole N×M matrix", count_attention, lower_attention},
};

}  // namespace

std::span<const FusionPass> fusion_passes() { return kPasses; }

void check_pass_name(std::string_view name) {
  std::string known;
  for (const FusionPass& pass : kPasses) {
    if (pass.name == name) return;
    known += (known.empty() ? "" : ", ") + std::string(pass.name);
  }
  throw usage_error("--no-fuse {}: the passes are {}", name, known);
}

std::vector<PassReport> run_fusion(Graph& graph, const DisabledPasses& disabled, const SelectOptions& kernels) {
  std::vector<PassReport> report;
  for (const FusionPass& pass : kPasses) {
    PassReport& r = report.emplace_back(PassReport{pass.name, !disabled.contains(pass.name), 0});
    if (r.enabled)
      r.count = pass.apply_for ? pass.apply_for(graph, kernels) : pass.apply(graph);
    else if (pass.lower)
      r.count = pass.lower(graph);
  }
  return report;
}

}  // namespace darkroom

// A model's computation as plain data: values and nodes with integer ids, in execution order, shapes inferred as it is built.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/ops.h"

namespace darkroom {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kNoValue = -1;

enum class ValueKind : uint8_t {
  input,       // bound from outside before each run
  weight,      // from the weight source
  activation,  // an op's result
  view,        // a window onto another value: no memory of its own
  assembled,   // written by other nodes, piece by piece: activations that lie in it
};

// The window of a view onto `base`, in elements: where it begins and how it is strided. Views are made by slice(),
// reshape() and split_heads() and cost nothing. An activation with such a window is written in place into its base.
struct ViewSpec {
  ValueId base = kNoValue;
  int64_t offset = 0;
  std::array<int64_t, kMaxRank> stride{};
};

struct Value {
  ValueKind kind = ValueKind::activation;
  Shape shape;
  DType dtype = DType::none;       // of a weight: none until it is known from the file
  std::string name;                // inputs, outputs and weights have one
  NodeId producer = -1;            // activations
  std::vector<std::string> parts;  // weights: stored tensors, one below the other along dimension 0
  ViewSpec view;                   // views; and activations that lie in an assembled value
};

struct Node {
  OpAttrs attrs;
  std::vector<ValueId> inputs;  // by slot; kNoValue where a slot is empty
  ValueId output = kNoValue;
  ValueId moments = kNoValue;  // of a convolution that leaves them (KernelCall::moments): an activation of its own
  std::string name;            // "down.0.res.1.conv1"
  std::vector<std::string> provenance;  // names of the nodes that a fusion replaced by this one

  OpKind kind() const { return op_kind(attrs); }
};

// A named result; its value is written to memory bound from outside.
struct GraphOutput {
  std::string name;
  ValueId value;
};

class Graph {
 public:
  // `name` for messages ("unet"); activations are of `dtype` (f32 or bf16) unless a node says otherwise.
  explicit Graph(std::string name, DType dtype = DType::f32) : name_(std::move(name)), dtype_(dtype) {}

  // Building. All throw usage_error naming node, op and shapes where operands do not fit.
  ValueId input(std::string name, const Shape& shape, DType dtype);
  ValueId weight(std::string name, const Shape& shape);
  // out_dtype none: the graph's dtype.
  ValueId add(std::string name, OpAttrs attrs, std::initializer_list<ValueId> inputs, DType out_dtype = DType::none);
  ValueId add(std::string name, OpAttrs attrs, std::span<const ValueId> inputs, DType out_dtype = DType::none);
  void output(std::string name, ValueId value);

  // Views. slice: channels [begin, begin+count). reshape: the same rows in another shape; the base must be dense, or
  // only dimensions outside of the innermost may change. split_heads: [B, N, NH·D] seen as [B, NH, N, D].
  ValueId slice(ValueId base, int64_t begin, int64_t count);
  ValueId reshape(ValueId base, const Shape& shape);
  ValueId split_heads(ValueId base, int64_t heads);
  // [1, ..] seen as [samples, ..]: each the same memory.
  ValueId broadcast(ValueId base, int64_t samples);

  const std::string& name() const { return name_; }
  DType dtype() const { return dtype_; }
  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<GraphOutput>& outputs() const { return outputs_; }
  const Value& value(ValueId id) const { return values_[size_t(id)]; }
  const Shape& shape(ValueId id) const { return value(id).shape; }
  // The value that owns the memory behind `id`: follows windows to their base.
  ValueId root(ValueId id) const;
  // The value as kernels see it, without memory, as if every root were dense. Windows keep their strides.
  TensorView view(ValueId id) const;
  // Elements from the beginning of the root's memory to that of `id`.
  int64_t offset(ValueId id) const;

  // Passes rewrite graphs: they read the old one and build a new one, or edit in place through these.
  std::vector<Value>& mutable_values() { return values_; }
  std::vector<Node>& mutable_nodes() { return nodes_; }
  std::vector<GraphOutput>& mutable_outputs() { return outputs_; }

  // Throws internal_error where an invariant does not hold: ids in range, each activation produced once and before its
  // uses, shapes as infer_shape() says. Every pass is checked by it.
  void check() const;

 private:
  std::string name_;
  DType dtype_;
  std::vector<Value> values_;
  std::vector<Node> nodes_;
  std::vector<GraphOutput> outputs_;
};

}  // namespace darkroom

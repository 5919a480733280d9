#include "runtime/graph.h"

#include <array>

#include "kernels/core/error.h"

namespace darkroom {

ValueId Graph::input(std::string name, const Shape& shape, DType dtype) {
  for (const Value& v : values_)
    if (v.kind == ValueKind::input && v.name == name) throw internal_error("{}: input {} exists already", name_, name);
  Value v;
  v.kind = ValueKind::input;
  v.shape = shape;
  v.dtype = dtype;
  v.name = std::move(name);
  values_.push_back(std::move(v));
  return ValueId(values_.size() - 1);
}

ValueId Graph::weight(std::string name, const Shape& shape) {
  Value v;
  v.kind = ValueKind::weight;
  v.shape = shape;
  v.dtype = DType::f32;
  v.parts = {name};
  v.name = std::move(name);
  values_.push_back(std::move(v));
  return ValueId(values_.size() - 1);
}

ValueId Graph::add(std::string name, OpAttrs attrs, std::initializer_list<ValueId> inputs, DType out_dtype) {
  return add(std::move(name), std::move(attrs), std::span<const ValueId>(inputs.begin(), inputs.size()), out_dtype);
}

ValueId Graph::add(std::string name, OpAttrs attrs, std::span<const ValueId> inputs, DType out_dtype) {
  const OpDef& op = op_def(op_kind(attrs));
  if (inputs.size() > size_t(op.inputs))
    throw internal_error("{}: {} has {} operands, {} takes {}", name_, name, inputs.size(), op.name, op.inputs);
  std::array<TensorView, kMaxInputs> views;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i] != kNoValue) views[i] = view(inputs[i]);

  Value result;
  result.kind = ValueKind::activation;
  result.dtype = out_dtype == DType::none ? dtype_ : out_dtype;
  result.producer = NodeId(nodes_.size());
  try {
    result.shape = infer_shape(attrs, std::span(views.data(), inputs.size()));
  } catch (const Error& e) {
    throw Error(e.kind(), fmt::format("{}: {}: {}", name_, name, e.what()));
  }
  values_.push_back(std::move(result));

  Node node;
  node.attrs = std::move(attrs);
  node.inputs.assign(inputs.begin(), inputs.end());
  node.inputs.resize(size_t(op.inputs), kNoValue);
  node.output = ValueId(values_.size() - 1);
  node.name = std::move(name);
  nodes_.push_back(std::move(node));
  return nodes_.back().output;
}

void Graph::output(std::string name, ValueId value) { outputs_.push_back({std::move(name), value}); }

namespace {

Value make_view(const TensorView& window, const ViewSpec& spec) {
  Value v;
  v.kind = ValueKind::view;
  v.shape = window.shape;
  v.dtype = window.dtype;
  v.view = spec;
  return v;
}

}  // namespace

ValueId Graph::slice(ValueId base, int64_t begin, int64_t count) {
  TensorView window = view(base);
  if (begin < 0 || count <= 0 || begin > window.channels() - count)
    throw usage_error("{}: channels {}..{} of {}", name_, begin, begin + count, window.shape.to_string());
  window.shape[-1] = count;
  values_.push_back(make_view(window, {base, begin, window.stride}));
  return ValueId(values_.size() - 1);
}

ValueId Graph::reshape(ValueId base, const Shape& shape) {
  const TensorView from = view(base);
  if (shape.elements() != from.shape.elements())
    throw usage_error("{}: {} cannot be seen as {}", name_, from.shape.to_string(), shape.to_string());
  TensorView to = TensorView::dense(nullptr, from.dtype, shape);
  if (from.stride[0] == 0 && from.shape[0] > 1) {
    // One sample for all: what is seen of it must be a sample again.
    if (shape[0] != from.shape[0])
      throw usage_error("{}: the samples of {} are one, it cannot be seen as {}", name_, from.shape.to_string(),
                        shape.to_string());
    to.stride[0] = 0;
  } else if (!from.is_dense()) {
    if (!from.rows_uniform() || shape.channels() != from.channels())
      throw usage_error("{}: strided {} cannot be seen as {}", name_, from.shape.to_string(), shape.to_string());
    int64_t step = from.row_stride();
    for (int i = shape.rank() - 2; i >= 0; --i) {
      to.stride[size_t(i)] = step;
      step *= shape[i];
    }
  }
  values_.push_back(make_view(to, {base, 0, to.stride}));
  return ValueId(values_.size() - 1);
}

ValueId Graph::split_heads(ValueId base, int64_t heads) {
  const TensorView from = view(base);
  if (from.rank() != 3 || heads <= 0 || from.channels() % heads != 0)
    throw usage_error("{}: {} has no {} heads", name_, from.shape.to_string(), heads);
  const int64_t dim = from.channels() / heads;
  TensorView to = from;
  to.shape = Shape{from.shape[0], heads, from.shape[1], dim};
  to.stride = {from.stride[0], dim, from.stride[1], 1};
  values_.push_back(make_view(to, {base, 0, to.stride}));
  return ValueId(values_.size() - 1);
}

ValueId Graph::broadcast(ValueId base, int64_t samples) {
  TensorView window = view(base);
  if (window.rank() < 2 || window.shape[0] != 1)
    throw usage_error("{}: {} is not one sample", name_, window.shape.to_string());
  window.shape[0] = samples;
  window.stride[0] = 0;
  values_.push_back(make_view(window, {base, 0, window.stride}));
  return ValueId(values_.size() - 1);
}

ValueId Graph::root(ValueId id) const {
  while (value(id).view.base != kNoValue) id = value(id).view.base;
  return id;
}

int64_t Graph::offset(ValueId id) const {
  int64_t total = 0;
  for (; value(id).view.base != kNoValue; id = value(id).view.base) total += value(id).view.offset;
  return total;
}

TensorView Graph::view(ValueId id) const {
  const Value& v = value(id);
  TensorView window = TensorView::dense(nullptr, v.dtype, v.shape);
  if (v.view.base != kNoValue) window.stride = v.view.stride;
  return window;
}

void Graph::check() const {
  const auto fail = [&](const std::string& where, const std::string& what) {
    throw internal_error("{}: {}: {}", name_, where, what);
  };
  std::vector<bool> ready(values_.size(), false);
  for (size_t i = 0; i < values_.size(); ++i) {
    const Value& v = values_[i];
    if (v.kind == ValueKind::view && (v.view.base < 0 || size_t(v.view.base) >= values_.size()))
      fail(v.name, "a view of nothing");
    ready[i] = v.kind == ValueKind::input || v.kind == ValueKind::weight;
  }
  // An assembled value is there once all that lies in it has been written.
  std::vector<int> missing(values_.size(), 0);
  for (const Node& node : nodes_)
    if (node.output >= 0 && size_t(node.output) < values_.size() && value(node.output).view.base != kNoValue)
      ++missing[size_t(root(node.output))];
  const auto check_use = [&](const std::string& where, ValueId id) {
    if (id < 0 || size_t(id) >= values_.size()) fail(where, fmt::format("operand {} does not exist", id));
    ValueId source = id;  // what produces it: itself, what it is a view of, or the assembled whole
    while (value(source).kind == ValueKind::view) source = value(source).view.base;
    if (!ready[size_t(source)]) fail(where, fmt::format("operand {} is used before it is produced", id));
  };
  for (size_t n = 0; n < nodes_.size(); ++n) {
    const Node& node = nodes_[n];
    std::array<TensorView, kMaxInputs> views;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == kNoValue) continue;
      check_use(node.name, node.inputs[i]);
      views[i] = view(node.inputs[i]);
    }
    if (node.output < 0 || size_t(node.output) >= values_.size()) fail(node.name, "has no output");
    const Value& out = value(node.output);
    if (out.kind != ValueKind::activation || out.producer != NodeId(n)) fail(node.name, "does not own its output");
    if (ready[size_t(node.output)]) fail(node.name, "produces a value twice");
    const Shape inferred = infer_shape(node.attrs, std::span(views.data(), node.inputs.size()));
    if (!(inferred == out.shape))
      fail(node.name, fmt::format("output is {}, the op says {}", out.shape.to_string(), inferred.to_string()));
    ready[size_t(node.output)] = true;
    if (node.moments != kNoValue) {
      if (node.moments < 0 || size_t(node.moments) >= values_.size() || ready[size_t(node.moments)])
        fail(node.name, "its moments are no value, or produced twice");
      const Value& m = value(node.moments);
      const bool owned = m.kind == ValueKind::activation && m.producer == NodeId(n) && m.view.base == kNoValue;
      const bool fits = m.shape.rank() == 4 && m.shape[1] > 0 && m.dtype == DType::f32 &&
                        m.shape == Shape{out.shape[0], m.shape[1], 3, out.shape.channels()};
      if (!owned || !fits || (node.kind() != OpKind::conv2d && node.kind() != OpKind::norm_conv2d))
        fail(node.name, fmt::format("{} are no moments of its output", m.shape.to_string()));
      ready[size_t(node.moments)] = true;
    }
    if (out.view.base != kNoValue && --missing[size_t(root(node.output))] == 0) ready[size_t(root(node.output))] = true;
  }
  for (const GraphOutput& o : outputs_) check_use(o.name, o.value);
}

}  // namespace darkroom

#include "runtime/weight_store.h"

#include "kernels/core/error.h"

namespace darkroom {

namespace {

bool is_weight_dtype(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

}  // namespace

std::vector<TensorView> WeightStore::parts(const Value& weight, bool with_data) const {
  std::vector<TensorView> views;
  int64_t rows = 0;
  for (const std::string& name : weight.parts) {
    const WeightView v = with_data ? source_.find(name) : source_.describe(name);
    if (v.dtype == DType::none) throw file_error("{}: has no tensor {}", source_.where(), name);
    if (!is_weight_dtype(v.dtype))
      throw file_error("{}: {} is {}; weights are f32, f16 or bf16", source_.where(), name, dtype_name(v.dtype));
    // A 1×1 convolution and a linear layer hold the same numbers; old files store one as the other.
    Shape shape = v.shape;
    if (weight.shape.rank() == 2 && shape.rank() == 4 && shape[2] == 1 && shape[3] == 1)
      shape = Shape{shape[0], shape[1]};
    if (weight.shape.rank() == 4 && shape.rank() == 2) shape = Shape{shape[0], shape[1], 1, 1};
    bool fits = shape.rank() == weight.shape.rank();
    for (int i = 1; fits && i < shape.rank(); ++i) fits = shape[i] == weight.shape[i];
    if (!fits)
      throw file_error("{}: {} is {}, the model wants {}", source_.where(), name, v.shape.to_string(),
                       weight.shape.to_string());
    rows += shape[0];
    views.push_back(TensorView::dense(const_cast<std::byte*>(v.data), v.dtype, shape));
  }
  if (rows != weight.shape[0])
    throw file_error("{}: {} has {} rows, the model wants {}", source_.where(), weight.parts[0], rows, weight.shape[0]);
  return views;
}

void WeightStore::release(const Value& weight) const {
  for (const std::string& name : weight.parts) source_.release(name);
}

void* WeightStore::allocate(size_t bytes, const std::string& key) {
  DeviceMemory& memory = memory_[key];
  memory = DeviceMemory(backend_, bytes, "weights");
  bytes_ += bytes;
  return memory.data();
}

void WeightStore::resolve(Graph& graph) const {
  for (Value& v : graph.mutable_values())
    if (v.kind == ValueKind::weight) v.dtype = parts(v, /*with_data=*/false)[0].dtype;
  // Small weights reach kernels in f32.
  for (const Node& node : graph.nodes())
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (node.inputs[i] != kNoValue && op_def(node.kind()).role(int(i)) == SlotRole::vector)
        graph.mutable_values()[size_t(node.inputs[i])].dtype = DType::f32;
}

void WeightStore::bind(const Plan& plan, const Step& step, KernelCall& call) {
  const Node& node = plan.graph.nodes()[size_t(step.node)];
  const OpDef& op = op_def(node.kind());
  const KernelDef& kernel = *step.selection.kernel;
  for (int slot = 0; slot < op.inputs; ++slot) {
    if (node.inputs[size_t(slot)] == kNoValue || op.role(slot) == SlotRole::activation) continue;
    const Value& weight = plan.graph.value(node.inputs[size_t(slot)]);
    if (op.role(slot) == SlotRole::table) {
      call.in[slot].data = parts(weight, /*with_data=*/true)[0].data;
      continue;
    }
    const bool packed = op.role(slot) == SlotRole::packed;
    std::string key = packed ? fmt::format("{}:{}", kernel.pack_format, dtype_name(weight.dtype)) : "vector";
    if (const auto* gemm = std::get_if<GemmAttrs>(&node.attrs); gemm && gemm->epilogue.geglu && packed) key += ":geglu";
    for (const std::string& name : weight.parts) key += ":" + name;

    void* memory = nullptr;
    if (const auto found = memory_.find(key); found != memory_.end()) {
      memory = found->second.data();
    } else if (packed) {
      const std::vector<TensorView> views = parts(weight, /*with_data=*/true);
      memory = allocate(kernel.packed_bytes(call), key);
      backend_.pack(kernel, call, views, memory);
      release(weight);
    } else {
      // Small ones, for kernels to read as they are: in f32.
      std::vector<float> values;
      for (const std::string& name : weight.parts) {
        const WeightView v = source_.find(name);
        const size_t at = values.size();
        values.resize(at + size_t(v.shape.elements()));
        read_elements(v.dtype, v.data, 0, v.shape.elements(), values.data() + at);
      }
      memory = allocate(values.size() * sizeof(float), key);
      backend_.upload(memory, values.data(), values.size() * sizeof(float));
    }
    if (packed)
      call.packed = memory;
    else
      call.in[slot].data = memory;
  }
}

}  // namespace darkroom

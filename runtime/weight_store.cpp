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

WeightStore::Entry WeightStore::entry(const Plan& plan, const Step& step, const KernelCall& call, int slot) const {
  const Node& node = plan.graph.nodes()[size_t(step.node)];
  const Value& weight = plan.graph.value(node.inputs[size_t(slot)]);
  Entry e;
  switch (op_def(node.kind()).role(slot)) {
    case SlotRole::activation:
      return e;
    case SlotRole::packed: {
      const KernelDef& kernel = *step.selection.kernel;
      e.key = fmt::format("{}:{}", kernel.pack_format, dtype_name(weight.dtype));
      if (const auto* gemm = std::get_if<GemmAttrs>(&node.attrs); gemm && gemm->epilogue.geglu) e.key += ":geglu";
      e.bytes = kernel.packed_bytes(call);
      break;
    }
    case SlotRole::vector:
      e.key = "vector";
      e.bytes = size_t(weight.shape.elements()) * sizeof(float);
      break;
    case SlotRole::table:
      if (backend_.device() == Device::cpu) return e;  // read where the file is mapped
      e.key = fmt::format("table:{}", dtype_name(weight.dtype));
      e.bytes = size_t(weight.shape.elements()) * dtype_size(weight.dtype);
      break;
  }
  for (const std::string& name : weight.parts) e.key += ":" + name;
  return e;
}

size_t WeightStore::missing_bytes(std::span<const Plan* const> plans) const {
  std::map<std::string, size_t> missing;
  for (const Plan* plan : plans)
    for (const Step& step : plan->steps) {
      const KernelCall call = plan->call(step);
      for (int slot = 0; slot < kMaxInputs; ++slot) {
        if (!call.in[slot].present()) continue;
        const Entry e = entry(*plan, step, call, slot);
        if (e.bytes > 0 && !memory_.contains(e.key)) missing[e.key] = e.bytes;
      }
    }
  size_t total = 0;
  for (const auto& [key, bytes] : missing) total += bytes;
  return total;
}

void WeightStore::bind(const Plan& plan, const Step& step, KernelCall& call) {
  const Node& node = plan.graph.nodes()[size_t(step.node)];
  const OpDef& op = op_def(node.kind());
  for (int slot = 0; slot < op.inputs; ++slot) {
    const SlotRole role = op.role(slot);
    if (node.inputs[size_t(slot)] == kNoValue || role == SlotRole::activation) continue;
    const Value& weight = plan.graph.value(node.inputs[size_t(slot)]);
    const Entry e = entry(plan, step, call, slot);
    if (e.bytes == 0) {
      call.in[slot].data = parts(weight, /*with_data=*/true)[0].data;
      continue;
    }
    void* memory = nullptr;
    if (const auto found = memory_.find(e.key); found != memory_.end()) {
      memory = found->second.data();
    } else {
      const std::vector<TensorView> views = parts(weight, /*with_data=*/true);
      memory = allocate(e.bytes, e.key);
      if (role == SlotRole::packed) {
        backend_.pack(*step.selection.kernel, call, views, memory);
        release(weight);
      } else if (role == SlotRole::table) {
        backend_.upload(memory, views[0].data, e.bytes);
      } else {
        // Small ones, for kernels to read as they are: in f32.
        std::vector<float> values;
        for (const std::string& name : weight.parts) {
          const WeightView v = source_.find(name);
          const size_t at = values.size();
          values.resize(at + size_t(v.shape.elements()));
          read_elements(v.dtype, v.data, 0, v.shape.elements(), values.data() + at);
        }
        backend_.upload(memory, values.data(), values.size() * sizeof(float));
      }
    }
    if (role == SlotRole::packed)
      call.packed = memory;
    else
      call.in[slot].data = memory;
  }
}

}  // namespace darkroom

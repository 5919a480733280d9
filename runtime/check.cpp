#include "runtime/check.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "kernels/core/error.h"
#include "runtime/weight_store.h"

namespace darkroom {

namespace {

// A single element may be off by this many times what the tensor as a whole may: a wrong one among millions is lost in their
// root mean square.
constexpr double kElement = 32;

// Operands of one step, in host memory, at the strides that they have on the device.
class HostTensors {
 public:
  TensorView copy(const TensorView& device, Backend& backend) {
    const size_t bytes = size_t(device.extent()) * dtype_size(device.dtype);
    memory_.emplace_back(bytes + kArenaAlignment);
    std::byte* at = memory_.back().data();
    at += (kArenaAlignment - reinterpret_cast<uintptr_t>(at) % kArenaAlignment) % kArenaAlignment;
    backend.download(at, device.data, bytes);
    TensorView host = device;
    host.data = at;
    return host;
  }
  void* scratch(size_t bytes) {
    memory_.emplace_back(bytes + kArenaAlignment);
    std::byte* at = memory_.back().data();
    return at + (kArenaAlignment - reinterpret_cast<uintptr_t>(at) % kArenaAlignment) % kArenaAlignment;
  }

 private:
  std::vector<std::vector<std::byte>> memory_;
};

double element(const TensorView& v, int64_t offset) {
  switch (v.dtype) {
    case DType::f32:
      return double(v.as<float>()[offset]);
    case DType::f16:
      return double(to_float(v.as<f16_t>()[offset]));
    case DType::bf16:
      return double(to_float(v.as<bf16_t>()[offset]));
    case DType::i32:
      return double(v.as<int32_t>()[offset]);
    case DType::u8:
      return double(v.as<uint8_t>()[offset]);
    default:
      return 0;
  }
}

struct Difference {
  double relative = 0;  // ‖a − b‖ / ‖b‖
  double worst = 0;     // the largest |a − b| / (root mean square of b + |b|)
  int64_t index = 0;    // of that one, row-major
  double mine = 0, expected = 0;
};

Difference compare(const TensorView& a, const TensorView& b) {
  const int64_t n = a.shape.elements();
  const auto offset = [&](int64_t i) {
    int64_t at = 0;
    for (int d = a.rank() - 1; d >= 0; --d) {
      at += (i % a.shape[d]) * a.stride[size_t(d)];
      i /= a.shape[d];
    }
    return at;
  };
  double norm = 0, difference = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double y = element(b, offset(i)), d = element(a, offset(i)) - y;
    norm += y * y;
    difference += d * d;
  }
  Difference result;
  result.relative = difference == 0 ? 0 : std::sqrt(difference / norm);
  const double scale = std::sqrt(norm / double(n));
  for (int64_t i = 0; i < n; ++i) {
    const double x = element(a, offset(i)), y = element(b, offset(i));
    const double worst = x == y ? 0 : std::abs(x - y) / (scale + std::abs(y));
    if (worst <= result.worst) continue;  // NaN is taken
    result.worst = worst;
    result.index = i;
    result.mine = x;
    result.expected = y;
    if (std::isnan(worst)) break;
  }
  return result;
}

std::string index_text(const Shape& shape, int64_t index) {
  std::string text;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    text = std::to_string(index % shape[d]) + (text.empty() ? "" : ",") + text;
    index /= shape[d];
  }
  return "[" + text + "]";
}

double roundoff(DType t) { return t == DType::bf16 ? 0x1p-8 : t == DType::f16 ? 0x1p-11 : 0; }

}  // namespace

double check_limit(const KernelCall& call) {
  if (dtype_size(call.out.dtype) == 0 || call.out.dtype == DType::i32) return 0;
  // One step of grey, of 255, where a half is rounded to the other side.
  if (call.out.dtype == DType::u8) return 1e-2;
  double unit = roundoff(call.out.dtype);
  const OpDef& op = op_def(op_kind(*call.attrs));
  for (int slot = 0; slot < op.inputs; ++slot)
    if (op.role(slot) == SlotRole::activation) unit = std::max(unit, roundoff(call.in[slot].dtype));
  return unit > 0 ? 2 * unit : 2e-5;
}

void PlanCheck::run_step(const BoundPlan& bound, size_t s, Backend& backend) {
  const Plan& plan = *bound.plan;
  const KernelCall& call = bound.calls[s];
  const Step& step = plan.steps[s];
  const Node& node = plan.graph.nodes()[s];
  const OpDef& op = op_def(node.kind());
  const KernelDef* ref = find_kernel(op.kind, "ref");
  // Not asked whether it would be chosen: it reads every floating type, f16 too, which plans for the CPU do not use.
  if (ref == nullptr) throw internal_error("{}: {}: {} has no ref", plan.graph.name(), node.name, op.name);

  HostTensors memory;
  WeightStore weights(source_, *host_);
  Step reference = step;
  reference.selection.kernel = ref;
  KernelCall expected = call;
  for (int slot = 0; slot < op.inputs; ++slot)
    if (call.in[slot].present() && op.role(slot) == SlotRole::activation)
      expected.in[slot] = memory.copy(call.in[slot], backend);
  weights.bind(plan, reference, expected);
  expected.out = memory.copy(call.out, backend);
  expected.moments = {};  // ref leaves none: the norm that takes them is held against what it says of x itself
  expected.scratch = ref->scratch_bytes ? memory.scratch(ref->scratch_bytes(call, host_->team())) : nullptr;

  backend.run(*step.selection.kernel, call);
  host_->run(*ref, expected);
  const TensorView mine = memory.copy(call.out, backend);

  const Difference d = compare(mine, expected.out);
  const double limit = check_limit(call);
  if (!(d.relative <= limit && d.worst <= kElement * limit))
    throw internal_error(
        "--check: {} step {} of {}, {} ({} {}, {}, out {} {}) is the first that diverges from ref: relative error "
        "{:.2g}, "
        "limit {:.2g}; at {} it has {:.7g}, ref {:.7g}",
        plan.graph.name(), s + 1, plan.steps.size(), node.name, op.name, step.selection.kernel->variant, step.what,
        dtype_name(call.out.dtype), call.out.shape.to_string(), d.relative, limit, index_text(call.out.shape, d.index),
        d.mine, d.expected);
  ++steps_;
  if (limit == 0 || d.relative / limit < worst_) return;
  worst_ = d.relative / limit;
  worst_text_ = fmt::format("{:.2g}, limit {:.2g} ({}: {}, {} {})", d.relative, limit, plan.graph.name(), node.name,
                            op.name, step.selection.kernel->variant);
}

void PlanCheck::run(const BoundPlan& bound, Backend& backend) {
  for (size_t s = 0; s < bound.calls.size(); ++s) run_step(bound, s, backend);
  ++plans_;
}

std::string PlanCheck::summary() const {
  return fmt::format("{} steps of {} plans agree with ref{}{}", steps_, plans_,
                     worst_text_.empty() ? "" : "; nearest to its limit: ", worst_text_);
}

}  // namespace darkroom

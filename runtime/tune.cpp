#include "runtime/tune.h"

#include <algorithm>
#include <chrono>

namespace darkroom {

namespace {

// A call's operands in memory of the device, filled with small numbers: time must not depend on them.
class Operands {
 public:
  Operands(const KernelCall& call, Backend& backend) : call_(call), backend_(backend) {
    const OpDef& op = op_def(op_kind(*call.attrs));
    for (int slot = 0; slot < op.inputs; ++slot) {
      if (!call.in[slot].present()) continue;
      if (op.role(slot) == SlotRole::packed)
        parts_.push_back(on_host(call.in[slot]));
      else
        call_.in[slot].data = on_device(call.in[slot]);
    }
    call_.out.data = on_device(call.out);
    if (call.moments.present()) call_.moments.data = on_device(call.moments);
  }

  // Seconds, the median of `runs`.
  double time(const KernelDef& kernel, int runs) {
    DeviceMemory packed, scratch;
    if (kernel.pack) {
      packed = DeviceMemory(backend_, kernel.packed_bytes(call_), "tuning");
      backend_.pack(kernel, call_, parts_, packed.data());
      call_.packed = packed.data();
    }
    if (kernel.scratch_bytes) {
      scratch = DeviceMemory(backend_, kernel.scratch_bytes(call_, backend_.team()), "tuning");
      call_.scratch = scratch.data();
    }
    backend_.run(kernel, call_);
    std::vector<double> seconds;
    for (int i = 0; i < runs; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      backend_.run(kernel, call_);
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    std::ranges::nth_element(seconds, seconds.begin() + runs / 2);
    return seconds[size_t(runs / 2)];
  }

 private:
  TensorView on_host(TensorView v) {
    host_.emplace_back(size_t(v.extent()) * dtype_size(v.dtype));
    std::vector<std::byte>& bytes = host_.back();
    v.data = bytes.data();
    for (int64_t i = 0; i < v.extent(); ++i) {
      const float x = float(i * 37 % 101 - 50) / 64;
      if (v.dtype == DType::f32) v.as<float>()[i] = x;
      if (v.dtype == DType::f16) v.as<f16_t>()[i] = to_f16(x);
      if (v.dtype == DType::bf16) v.as<bf16_t>()[i] = to_bf16(x);
    }
    return v;
  }
  void* on_device(const TensorView& v) {
    const TensorView host = on_host(v);
    const size_t bytes = host_.back().size();
    device_.emplace_back(backend_, bytes, "tuning");
    backend_.upload(device_.back().data(), host.data, bytes);
    host_.pop_back();
    return device_.back().data();
  }

  KernelCall call_;
  Backend& backend_;
  std::vector<TensorView> parts_;
  std::vector<std::vector<std::byte>> host_;
  std::vector<DeviceMemory> device_;
};

}  // namespace

void tune(const Plan& plan, Backend& backend, const SelectOptions& options, int runs, Tuning& tuning,
          const Measured& measured) {
  for (const Step& step : plan.steps) {
    const KernelCall call = plan.call(step);
    std::vector<const KernelDef*> candidates;
    for (const KernelDef* kernel : kernels_of(step.selection.kernel->op))
      if (kernel->variant != "ref" && is_cuda(kernel->isa) == is_cuda(options.isa) &&
          refusal(*kernel, call, options).empty())
        candidates.push_back(kernel);
    const Tuning::Times* known = tuning.find(call);
    const auto is_known = [&](const KernelDef* kernel) { return known && known->contains(kernel->variant); };
    if (candidates.size() < 2 || std::ranges::all_of(candidates, is_known)) continue;
    Operands operands(call, backend);
    Tuning::Times times;
    for (const KernelDef* kernel : candidates) times[std::string(kernel->variant)] = operands.time(*kernel, runs);
    const std::string key = Tuning::key(call);
    tuning.set(key, times);
    if (!measured(key, times)) return;
  }
}

}  // namespace darkroom

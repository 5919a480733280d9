#include "runtime/backend.h"

#include "kernels/core/error.h"

namespace darkroom {

namespace {

class PlanningBackend : public Backend {
 public:
  explicit PlanningBackend(Isa isa) : isa_(isa) {}
  Device device() const override { return is_cuda(isa_) ? Device::cuda : Device::cpu; }
  Isa isa() const override { return isa_; }
  std::string description() const override { return fmt::format("plans for {}", isa_name(isa_)); }
  int team() const override { return 1; }
  std::optional<size_t> free_memory() const override { return std::nullopt; }
  void* allocate(size_t, std::string_view what) override { fail(what); }
  void release(void*) noexcept override {}
  void upload(void*, const void*, size_t) override { fail("a copy"); }
  void download(void*, const void*, size_t) override { fail("a copy"); }
  void pack(const KernelDef&, const KernelCall&, std::span<const TensorView>, void*) override { fail("packing"); }
  std::unique_ptr<Recording> record(std::span<const BoundPlan>) override { fail("a recording"); }
  void run(const KernelDef&, const KernelCall&) override { fail("a run"); }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw internal_error("{}: there is no device, only {}", what, description());
  }
  Isa isa_;
};

}  // namespace

const char* device_name(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

DeviceChoice choose_device(std::string_view name) {
  if (name == "cpu" || name == "cuda") return {name == "cpu" ? Device::cpu : Device::cuda, "asked for"};
  if (name != "auto") throw usage_error("--device {}: there are cpu, cuda and auto", name);
  const std::optional<std::string> why_not = why_no_cuda();
  return why_not ? DeviceChoice{Device::cpu, *why_not} : DeviceChoice{Device::cuda, "there is a GPU"};
}

std::unique_ptr<Backend> make_backend(Device device, int threads) {
  return device == Device::cpu ? make_cpu_backend(threads) : make_cuda_backend(threads);
}

std::unique_ptr<Backend> make_planning_backend(Isa isa) {
  if (is_cuda(isa) && cuda_kernels().empty())
    throw resource_error("plans for {}: {}", isa_name(isa), why_no_cuda().value_or("there are no kernels for it"));
  return std::make_unique<PlanningBackend>(isa);
}

}  // namespace darkroom

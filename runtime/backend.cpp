#include "runtime/backend.h"

#include "kernels/core/error.h"

namespace darkroom {

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

}  // namespace darkroom

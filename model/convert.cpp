#include "model/convert.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "kernels/core/error.h"
#include "model/inventory.h"
#include "runtime/weight_file.h"

namespace darkroom {

namespace {

constexpr int64_t kBlock = 1 << 20;  // elements converted at a time

// Reads without assuming alignment: safetensors do not promise any.
template <typename T>
T load(const std::byte* p) {
  T x;
  std::memcpy(&x, p, sizeof(T));
  return x;
}

}  // namespace

bool convert(const Checkpoint& source, const std::string& path, const ConvertOptions& options,
             const std::function<void(uint64_t, uint64_t)>& progress, const std::atomic<bool>* cancel) {
  const std::vector<InventoryEntry> inventory = model_inventory(source);
  check_inventory(source, inventory);
  WeightFileWriter writer(path);
  for (const std::string& name : source.texts()) writer.add_text(name, source.required_text(name));
  nlohmann::json provenance = {{"source", options.source_name},
                               {"dtype", options.dtype ? dtype_name(*options.dtype) : "as stored"}};
  writer.add_text("provenance.json", provenance.dump());
  uint64_t total = 0, done = 0;
  for (const InventoryEntry& e : inventory) {
    const DType have = source.find(e.full()).dtype, dtype = options.dtype.value_or(have);
    writer.add_tensor(e.component, e.name, dtype, e.shape);
    total += uint64_t(e.shape.elements()) * dtype_size(dtype);
    source.release(e.full());
  }
  writer.begin();
  std::vector<std::byte> block;
  for (const InventoryEntry& e : inventory) {
    if (cancel && cancel->load()) return false;
    const WeightView view = source.find(e.full());
    const DType dtype = options.dtype.value_or(view.dtype);
    for (int64_t first = 0; first < e.shape.elements(); first += kBlock) {
      const int64_t n = std::min(kBlock, e.shape.elements() - first);
      const size_t bytes = size_t(n) * dtype_size(dtype);
      block.resize(bytes);
      for (int64_t i = 0; i < n; ++i) {
        const size_t at = size_t(first + i) * dtype_size(view.dtype);
        float x = 0;
        if (view.dtype == DType::f32) x = load<float>(view.data + at);
        if (view.dtype == DType::f16) x = to_float(load<f16_t>(view.data + at));
        if (view.dtype == DType::bf16) x = to_float(load<bf16_t>(view.data + at));
        if (!std::isfinite(x))
          throw file_error("{}: {} holds {} at element {}", source.where(), e.full(), x, first + i);
        if (dtype == DType::f32) reinterpret_cast<float*>(block.data())[i] = x;
        if (dtype == DType::bf16) reinterpret_cast<bf16_t*>(block.data())[i] = to_bf16(x);
        if (dtype == DType::f16) reinterpret_cast<f16_t*>(block.data())[i] = to_f16(x);
        if (dtype != DType::f32 && !std::isfinite(dtype == DType::f16 ? to_float(to_f16(x)) : to_float(to_bf16(x))))
          throw file_error("{}: {} holds {} at element {}, more than {} can hold: choose another --dtype",
                           source.where(), e.full(), x, first + i, dtype_name(dtype));
      }
      writer.write(block.data(), bytes);
      done += bytes;
    }
    source.release(e.full());
    if (progress) progress(done, total);
  }
  writer.commit();
  return true;
}

}  // namespace darkroom

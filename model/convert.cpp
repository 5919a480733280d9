#include "model/convert.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "kernels/core/error.h"
#include "model/inventory.h"
#include "runtime/q8.h"
#include "runtime/weight_file.h"

namespace darkroom {

namespace {

constexpr int64_t kBlock = 1 << 20;  // elements converted at a time
constexpr const char* kProvenance = "provenance.json";

class Converter {
 public:
  Converter(const Checkpoint& source, const std::string& path, const ConvertOptions& options)
      : source_(source), options_(options), inventory_(model_inventory(source)), writer_(path) {}

  bool run(const std::function<void(uint64_t, uint64_t)>& progress, const std::atomic<bool>* cancel) {
    check_inventory(source_, inventory_);
    for (const std::string& name : source_.texts())
      if (name != kProvenance) writer_.add_text(name, source_.required_text(name));
    writer_.add_text(kProvenance, provenance());
    for (const InventoryEntry& e : inventory_)
      writer_.add_tensor(e.component, e.name, dtype_of(e), e.shape,
                         is_q8(e) ? WeightEncoding::q8 : WeightEncoding::plain);
    writer_.begin();
    for (const InventoryEntry& e : inventory_) {
      if (cancel && cancel->load()) return false;
      const WeightView view = source_.find(e.full());
      if (is_q8(e))
        write_q8(e, view);
      else
        write_plain(e, view, dtype_of(e));
      source_.release(e.full());
      if (progress) progress(done_, writer_.total_bytes());
    }
    writer_.commit();
    if (options_.report)
      for (auto& [name, c] : classes_) options_.report->push_back(c.finished());
    return true;
  }

 private:
  // Sums of the squares behind a class's relative error.
  struct Class : QuantisedClass {
    double errors = 0, weights = 0;
    QuantisedClass finished() {
      relative_rms = weights > 0 ? std::sqrt(errors / weights) : 0;
      return *this;
    }
  };

  bool is_q8(const InventoryEntry& e) const {
    return options_.q8 && q8_takes(e.shape) && e.name.find("embeddings.") == std::string::npos;
  }
  DType dtype_of(const InventoryEntry& e) const {
    return is_q8(e) ? DType::f16 : options_.dtype.value_or(source_.describe(e.full()).dtype);
  }
  std::string provenance() const {
    const char* dtype = options_.q8 ? "q8" : options_.dtype ? dtype_name(*options_.dtype) : "as stored";
    nlohmann::json json = {{"source", options_.source_name}, {"dtype", dtype}};
    if (!options_.loras.empty()) json["loras"] = options_.loras;
    return json.dump();
  }

  void write(const void* data, size_t bytes) {
    writer_.write(data, bytes);
    done_ += bytes;
  }

  // Throws for the first number of a tensor that is none, or that the type cannot hold. `first`: the element of values[0].
  void refuse(const InventoryEntry& e, int64_t first, std::span<const float> values, const char* type) const {
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        throw file_error("{}: {} holds {} at element {}", source_.where(), e.full(), values[i], first + int64_t(i));
    const auto largest = std::ranges::max_element(values, {}, [](float x) { return std::abs(x); });
    throw file_error("{}: {} holds {} at element {}, more than {} can hold: choose another --dtype", source_.where(),
                     e.full(), *largest, first + (largest - values.begin()), type);
  }

  void write_plain(const InventoryEntry& e, const WeightView& view, DType dtype) {
    for (int64_t first = 0; first < e.shape.elements(); first += kBlock) {
      const int64_t n = std::min(kBlock, e.shape.elements() - first);
      values_.resize(size_t(n));
      stored_.resize(size_t(n));
      block_.resize(size_t(n) * dtype_size(dtype));
      read_elements(view.dtype, view.data, first, n, values_.data());
      write_elements(dtype, values_.data(), n, block_.data());
      read_elements(dtype, block_.data(), 0, n, stored_.data());
      if (!std::ranges::all_of(stored_, [](float x) { return std::isfinite(x); }))
        refuse(e, first, values_, dtype_name(dtype));
      write(block_.data(), block_.size());
    }
  }

  void write_q8(const InventoryEntry& e, const WeightView& view) {
    const Q8Layout layout = q8_layout(e.shape);
    const int64_t elements = layout.inputs * layout.taps, blocks = layout.blocks() * layout.taps;
    std::vector<int8_t> quantised(static_cast<size_t>(elements));
    std::vector<f16_t> scales(static_cast<size_t>(layout.outputs * blocks));
    values_.resize(size_t(elements));
    stored_.resize(size_t(elements));
    double errors = 0, weights = 0, largest_error = 0, largest_weight = 0;
    for (int64_t o = 0; o < layout.outputs; ++o) {
      f16_t* own = scales.data() + o * blocks;
      read_elements(view.dtype, view.data, o * elements, elements, values_.data());
      if (!q8_quantise(layout, values_.data(), quantised.data(), own)) refuse(e, o * elements, values_, "q8");
      q8_dequantise(layout, quantised.data(), own, stored_.data());
      for (size_t i = 0; i < values_.size(); ++i) {
        const double w = double(values_[i]), error = double(stored_[i]) - w;
        errors += error * error;
        weights += w * w;
        largest_error = std::max(largest_error, std::abs(error));
        largest_weight = std::max(largest_weight, std::abs(w));
      }
      write(quantised.data(), quantised.size());
    }
    const std::vector<char> padding(layout.scales_offset() - layout.value_bytes());
    if (!padding.empty()) write(padding.data(), padding.size());
    write(scales.data(), scales.size() * sizeof(f16_t));

    const std::string kind = e.shape.rank() == 2 ? "linear" : fmt::format("conv {}x{}", e.shape[2], e.shape[3]);
    Class& c = classes_[e.component + " " + kind];
    c.name = e.component + " " + kind;
    ++c.tensors;
    c.elements += uint64_t(e.shape.elements());
    c.bytes += layout.bytes();
    c.errors += errors;
    c.weights += weights;
    if (largest_weight > 0) c.largest = std::max(c.largest, largest_error / largest_weight);
  }

  const Checkpoint& source_;
  const ConvertOptions& options_;
  const std::vector<InventoryEntry> inventory_;
  WeightFileWriter writer_;
  uint64_t done_ = 0;
  std::vector<float> values_, stored_;
  std::vector<std::byte> block_;
  std::map<std::string, Class> classes_;
};

}  // namespace

bool convert(const Checkpoint& source, const std::string& path, const ConvertOptions& options,
             const std::function<void(uint64_t, uint64_t)>& progress, const std::atomic<bool>* cancel) {
  return Converter(source, path, options).run(progress, cancel);
}

}  // namespace darkroom

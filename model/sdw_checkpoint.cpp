#include "model/sdw_checkpoint.h"

#include <algorithm>
#include <cmath>

#include "kernels/core/error.h"
#include "runtime/q8.h"

namespace darkroom {

WeightView SdwCheckpoint::describe(std::string_view name) const {
  const WeightFileTensor* t = file_.find(name);
  if (!t) return {};
  if (t->encoding == WeightEncoding::plain) return {t->dtype, t->shape, file_.data(*t), t->bytes};
  return {DType::f16, t->shape, nullptr, size_t(t->shape.elements()) * sizeof(f16_t)};
}

WeightView SdwCheckpoint::find(std::string_view name) const {
  WeightView view = describe(name);
  if (view.dtype == DType::none || view.data) return view;
  const auto [made, fresh] = dequantised_.try_emplace(std::string(name));
  if (fresh) made->second = dequantise(*file_.find(name));
  view.data = made->second.data();
  return view;
}

void SdwCheckpoint::release(std::string_view name) const {
  if (const auto made = dequantised_.find(name); made != dequantised_.end()) dequantised_.erase(made);
  if (const WeightFileTensor* t = file_.find(name)) file_.release(*t);
}

std::vector<std::byte> SdwCheckpoint::dequantise(const WeightFileTensor& t) const {
  const Q8Layout layout = q8_layout(t.shape);
  const std::byte* data = file_.data(t);
  const int64_t blocks = layout.taps * layout.blocks(), elements = layout.taps * layout.inputs;
  const auto* values = reinterpret_cast<const int8_t*>(data);
  const auto* scales = reinterpret_cast<const f16_t*>(data + layout.scales_offset());
  const int64_t all_blocks = layout.outputs * blocks;
  if (!std::all_of(scales, scales + all_blocks, [](f16_t s) { return std::isfinite(to_float(s)); }))
    throw file_error("{}: {}/{} has a scale that is not finite", where(), file_.components()[t.component], t.name);
  std::vector<std::byte> out(size_t(t.shape.elements()) * sizeof(f16_t));
  std::vector<float> weights(static_cast<size_t>(elements));
  for (int64_t o = 0; o < layout.outputs; ++o) {
    q8_dequantise(layout, values + o * elements, scales + o * blocks, weights.data());
    write_elements(DType::f16, weights.data(), elements, out.data() + size_t(o * elements) * sizeof(f16_t));
  }
  return out;
}

std::optional<std::string> SdwCheckpoint::text(std::string_view name) const {
  const std::string_view* found = file_.text(name);
  return found ? std::optional<std::string>(*found) : std::nullopt;
}

bool SdwCheckpoint::has_component(std::string_view component) const {
  return std::ranges::count(file_.components(), component) > 0;
}

std::vector<std::string> SdwCheckpoint::tensors() const {
  std::vector<std::string> names;
  for (const WeightFileTensor& t : file_.tensors()) names.push_back(file_.components()[t.component] + "/" + t.name);
  return names;
}

}  // namespace darkroom

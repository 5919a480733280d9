#include "model/sdw_checkpoint.h"

#include <algorithm>

namespace darkroom {

WeightView SdwCheckpoint::find(std::string_view name) const {
  const WeightFileTensor* t = file_.find(name);
  return t ? WeightView{t->dtype, t->shape, file_.data(*t), t->bytes} : WeightView{};
}

void SdwCheckpoint::release(std::string_view name) const {
  if (const WeightFileTensor* t = file_.find(name)) file_.release(*t);
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

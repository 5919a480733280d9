// A model in a .sdw file. Quantised weights are given as f16: the scales are f16, so a rounding of q · scale to f16 adds no more
// than 2⁻¹¹ of a weight to q8's own error, which is up to 2⁻⁸ of its block's largest.
#pragma once

#include <map>

#include "model/checkpoint.h"
#include "runtime/weight_file.h"

namespace darkroom {

class SdwCheckpoint : public Checkpoint {
 public:
  explicit SdwCheckpoint(const std::string& path) : file_(path) {}

  // A quantised weight is dequantised when it is asked for, until release(). Throws file_error where a scale is not finite.
  WeightView find(std::string_view name) const override;
  WeightView describe(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string where() const override { return file_.path(); }
  std::optional<std::string> text(std::string_view name) const override;
  std::vector<std::string> texts() const override { return file_.texts(); }
  bool has_component(std::string_view component) const override;
  std::vector<std::string> tensors() const override;

 private:
  std::vector<std::byte> dequantise(const WeightFileTensor& tensor) const;

  WeightFile file_;
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> dequantised_;
};

}  // namespace darkroom

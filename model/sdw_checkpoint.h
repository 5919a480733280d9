// A model in a .sdw file.
#pragma once

#include "model/checkpoint.h"
#include "runtime/weight_file.h"

namespace darkroom {

class SdwCheckpoint : public Checkpoint {
 public:
  explicit SdwCheckpoint(const std::string& path) : file_(path) {}

  WeightView find(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string where() const override { return file_.path(); }
  std::optional<std::string> text(std::string_view name) const override;
  std::vector<std::string> texts() const override { return file_.texts(); }
  bool has_component(std::string_view component) const override;
  std::vector<std::string> tensors() const override;

 private:
  WeightFile file_;
};

}  // namespace darkroom

// Writes safetensors files for tests.
#pragma once

#include <map>
#include <span>
#include <string>

#include "kernels/core/dtype.h"
#include "kernels/core/shape.h"

namespace darkroom::testing {

class SafetensorsWriter {
 public:
  // f32, f16 or bf16, rounded to nearest. A shape of rank 0 is a scalar.
  void add(const std::string& name, DType dtype, const Shape& shape, std::span<const float> values);
  void set_metadata(const std::string& key, const std::string& value) { metadata_[key] = value; }

  std::string bytes() const;
  void save(const std::string& path) const;

 private:
  struct Tensor {
    DType dtype;
    Shape shape;
    std::string data;
  };
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace darkroom::testing

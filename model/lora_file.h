// A LoRA file: the layers that it changes, by its own names, with the parts that make each change.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/lora_names.h"
#include "runtime/tensor_file.h"

namespace darkroom {

class LoraFile {
 public:
  // down [r, I] or [r, I, KH, KW], up [O, r] or [O, r, 1, 1]; with mid [r, s, KH, KW], down is [s, I, 1, 1].
  struct Layer {
    const StoredTensor *down = nullptr, *up = nullptr, *mid = nullptr;
    double scale = 1;  // alpha / rank; 1 where the file gives no alpha
  };

  // Throws file_error on a file that is no LoRA, that is one of another kind (LoHa, LoKr, DoRA ...), or in which the parts of
  // a layer do not fit together.
  explicit LoraFile(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, Layer, std::less<>>& layers() const { return layers_; }

  // The factors of a layer's change, row-major: up [O, r], and [r, I·KH·KW], down with mid multiplied in.
  std::vector<float> up(const Layer& layer) const { return elements_of(*layer.up); }
  std::vector<float> down(const Layer& layer) const;

  // "SD 1.x", "SD 2.x" or "SD XL", where the width that cross-attention reads tells it; else "".
  std::string family() const;

 private:
  double read_scalar(const std::string& name, const StoredTensor& entry) const;
  void check(const std::string& name, const Layer& layer) const;
  void take_scales(const std::map<std::string, double, std::less<>>& alphas);

  TensorFile file_;
  std::map<std::string, Layer, std::less<>> layers_;
};

}  // namespace darkroom

// A folder in the layout that diffusers saves: model_index.json, and per component a config.json and safetensors files,
// single, sharded, or in their fp16 variant.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "runtime/safetensors.h"

namespace darkroom {

class DiffusersFolder : public Checkpoint {
 public:
  // Opens every component's files and reads their headers. Throws file_error.
  explicit DiffusersFolder(const std::string& path);

  WeightView find(std::string_view name) const override;
  WeightView describe(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string where() const override { return path_; }
  std::optional<std::string> text(std::string_view name) const override;
  std::vector<std::string> texts() const override;
  bool has_component(std::string_view component) const override;
  std::vector<std::string> tensors() const override;

  // The component's name for a tensor that older files call otherwise: the autoencoder's attention was query, key, value,
  // proj_attn before it was to_q, to_k, to_v, to_out.0.
  static std::string canonical(std::string_view component, std::string name);

 private:
  struct Located {
    size_t file;
    const SafetensorsEntry* entry;
  };
  void open_component(const std::string& component);
  void add_file(const std::string& component, const std::string& path);

  std::string path_;
  std::vector<Safetensors> files_;
  std::vector<std::string> components_;
  std::map<std::string, Located, std::less<>> tensors_;
};

}  // namespace darkroom

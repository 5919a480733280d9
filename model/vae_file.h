// Autoencoders by the names that files give to their tensors, alone in a file or within a checkpoint.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/configs.h"
#include "model/ldm_names.h"
#include "runtime/tensor_file.h"

namespace darkroom {

// Behind `prefix`: LDM's names, with the attention as q, k, v, proj_out or as to_q …; or diffusers' names, with the attention as
// to_q … or, in old files, query, key, value, proj_attn.
class VaeNames {
 public:
  VaeNames(const TensorFile& file, std::string prefix, const VaeConfig& config)
      : file_(file), prefix_(std::move(prefix)), ldm_(ldm_vae_names(config)) {}

  // What the file calls a tensor, by its diffusers name; where it has none, the name that LDM would give to it.
  std::string operator()(const std::string& diffusers) const;

 private:
  const TensorFile& file_;
  std::string prefix_;
  NameMap ldm_;
};

// A checkpoint with the autoencoder of another file in place of its own.
class WithVae : public Checkpoint {
 public:
  // `paths`: an autoencoder alone in a file, .safetensors or .ckpt; a TAESD's halves may lie in a file each, and its decoder may come
  // alone. Throws file_error where it is none, makes latents that are not the model's, or has a tensor that a TAESD does not read.
  WithVae(std::unique_ptr<Checkpoint> base, const std::vector<std::string>& paths);

  WeightView find(std::string_view name) const override;
  WeightView describe(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string where() const override { return base_->where(); }
  std::optional<std::string> text(std::string_view name) const override;
  std::vector<std::string> texts() const override;
  bool has_component(std::string_view component) const override;
  std::vector<std::string> tensors() const override;
  std::vector<std::string> evidence() const override;

 private:
  struct Source {
    const TensorFile* file;
    const StoredTensor* tensor;
  };
  void take(const std::string& name, const TensorFile& file, const std::string& stored);

  std::unique_ptr<Checkpoint> base_;
  std::vector<TensorFile> files_;
  std::string config_;
  std::map<std::string, Source, std::less<>> sources_;
};

}  // namespace darkroom

// A model in one file, in the layout of CompVis' LDM and Stability's SGM: .safetensors or .ckpt, SD 1.x, 2.x, XL base and refiner.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/ldm_family.h"

namespace darkroom {

class SingleFile : public Checkpoint {
 public:
  // Recognises the model and finds every tensor of its networks. Throws file_error naming what is missing, what has another shape,
  // and what lies inside of a network without being a part of it.
  SingleFile(const std::string& path, const CheckpointOptions& options);

  // Dense views into the file; what lies there in another order is copied, and stays until release().
  WeightView find(std::string_view name) const override;
  WeightView describe(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string where() const override { return file_.path(); }
  std::optional<std::string> text(std::string_view name) const override;
  std::vector<std::string> texts() const override;
  bool has_component(std::string_view component) const override;
  std::vector<std::string> tensors() const override;
  std::vector<std::string> evidence() const override;

 private:
  // Where a tensor of ours lies: `part` of the `parts` equal pieces of a stored one along its first dimension, turned over
  // where `transposed`.
  struct Source {
    const StoredTensor* stored = nullptr;
    int part = 0, parts = 1;
    bool transposed = false;
  };
  const std::byte* gathered(std::string_view name, const Source& source, const WeightView& view) const;
  void locate();
  void add_tokenizer(const std::string& tokenizer);
  void take(const std::string& name, const std::string& stored, Source source);
  void refuse_what_is_left() const;

  TensorFile file_;
  LdmRecognition recognition_;
  bool ema_ = false;
  std::map<std::string, Source, std::less<>> sources_;
  std::map<std::string, std::string, std::less<>> used_;  // stored name → ours
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> made_;
};

}  // namespace darkroom

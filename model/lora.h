// LoRAs: small changes of a model's linear and convolution layers, added to its weights as they are read.
//   W' = W + Σ w · alpha/rank · up · down      up [O, r], down [r, I·KH·KW], w the weight that the user gives
// With mid, LoCon's Tucker form, the change is Σ_rs up[o,r] · mid[r,s,kh,kw] · down[s,i].
// The sum is made in f32 and rounded once, to the type in which the model stores W, tensor by tensor when it is asked for.
// Source: Hu et al., LoRA (2021); Yeh et al., Navigating Text-To-Image Customization (LyCORIS, 2024).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/lora_file.h"

namespace darkroom {

// A file, and how much of it.
struct LoraSpec {
  std::string path;
  float weight = 1.0f;
};
// "FILE" or "FILE:0.8". A colon that no number follows belongs to the file's name. Throws usage_error where nothing stands
// before it, or where the number is not finite.
LoraSpec parse_lora_spec(const std::string& text);

// What became of a file.
struct LoraReport {
  std::string path;
  float weight = 1.0f;
  size_t applied = 0, layers = 0;
  std::vector<std::string> unknown;  // layers that this model does not have
};

// A checkpoint whose weights are those of another with LoRAs added.
class LoraCheckpoint : public Checkpoint {
 public:
  // Throws file_error where a file is no LoRA, where none of its layers is one of this model's, and where a layer has
  // another shape here: a LoRA for another family.
  LoraCheckpoint(std::unique_ptr<Checkpoint> base, const std::vector<LoraSpec>& loras, int threads);
  ~LoraCheckpoint() override;

  const std::vector<LoraReport>& reports() const { return reports_; }

  // Merges a weight that a LoRA changes; the result stays until release(). Throws file_error where the sum is not finite.
  WeightView find(std::string_view name) const override;
  WeightView describe(std::string_view name) const override { return base_->describe(name); }
  void release(std::string_view name) const override;
  std::string where() const override { return base_->where(); }
  std::optional<std::string> text(std::string_view name) const override { return base_->text(name); }
  std::vector<std::string> texts() const override { return base_->texts(); }
  bool has_component(std::string_view component) const override { return base_->has_component(component); }
  std::vector<std::string> tensors() const override { return base_->tensors(); }
  std::vector<std::string> evidence() const override { return base_->evidence(); }

 private:
  struct Change {
    const LoraFile* file;
    const LoraFile::Layer* layer;
    float scale;  // w · alpha / rank
  };
  class Team;

  void add(const LoraSpec& spec, const std::map<std::string, std::string, std::less<>>& names);
  std::vector<std::byte> merge(std::string_view name, const std::vector<Change>& changes) const;

  std::unique_ptr<Checkpoint> base_;
  std::vector<std::unique_ptr<LoraFile>> files_;
  std::vector<LoraReport> reports_;
  std::map<std::string, std::vector<Change>, std::less<>> changes_;  // by weight
  std::unique_ptr<Team> team_;
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> merged_;
};

}  // namespace darkroom

// Weights of full size without a file: every number follows from its tensor's name and its place in it. For measuring and
// testing where no real checkpoint is at hand; the pictures are noise.
//
// h = FNV-1a-64 of the tensor's name; z = splitmix64(h + (i+1)·0x9E3779B97F4A7C15) for the row-major index i; k = (z >> 56) − 128.
// Norm weights 1 + k/1024; other vectors k/4096; token and position embeddings k/2048; all else k·2^−e with
// e = ceil(log2(√fan_in · 75)), one more for layers that close a residual branch. All exact in f16 and bf16.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/inventory.h"

namespace darkroom {

// The stream of k for a name, from element `first` on.
void synthetic_integers(std::string_view name, int64_t first, int64_t count, int32_t* out);

class SyntheticCheckpoint : public Checkpoint {
 public:
  // "sd15", "sd21" or "sdxl". Throws usage_error on another name.
  explicit SyntheticCheckpoint(const std::string& family);

  // The tensor's numbers, made on demand in f32; they stay until release().
  WeightView find(std::string_view name) const override;
  WeightView describe(std::string_view name) const override;
  void release(std::string_view name) const override;
  std::string where() const override { return "synthetic " + family_; }
  std::optional<std::string> text(std::string_view name) const override;
  std::vector<std::string> texts() const override;
  bool has_component(std::string_view component) const override;
  std::vector<std::string> tensors() const override;

 private:
  std::string family_;
  std::map<std::string, std::string, std::less<>> texts_;
  std::map<std::string, InventoryEntry, std::less<>> entries_;
  mutable std::map<std::string, std::vector<float>, std::less<>> made_;
};

}  // namespace darkroom

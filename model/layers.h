// Layers as the checkpoints name them: what model code is written in. Each adds nodes to a graph and returns the result.
#pragma once

#include <string>

#include "runtime/graph.h"

namespace darkroom {

// A place in a model: the graph that is built, and the prefix under which weights and nodes of this place are named.
//   Scope("unet/").child("down_blocks.0").child("resnets.1") names weights "unet/down_blocks.0.resnets.1.<leaf>"
// and nodes "down_blocks.0.resnets.1.<leaf>".
class Scope {
 public:
  Scope(Graph& graph, std::string component) : graph_(&graph), component_(std::move(component)) {}

  Scope child(const std::string& name) const {
    Scope s = *this;
    s.path_ += (path_.empty() ? "" : ".") + name;
    return s;
  }
  Scope child(const std::string& name, size_t index) const { return child(name + "." + std::to_string(index)); }

  Graph& graph() const { return *graph_; }
  const Shape& shape(ValueId v) const { return graph_->shape(v); }
  std::string node(const std::string& leaf) const {
    return path_.empty() ? leaf : leaf.empty() ? path_ : path_ + "." + leaf;
  }
  ValueId weight(const std::string& leaf, const Shape& shape) const {
    return graph_->weight(component_ + "/" + node(leaf), shape);
  }

  // [.., in] → [.., out]
  ValueId linear(const std::string& name, ValueId x, int64_t out, bool bias = true, DType dtype = DType::none) const;
  // [B, H, W, in] → [B, H', W', out]; padding 1 all round for 3×3, none for 1×1.
  ValueId conv3x3(const std::string& name, ValueId x, int64_t out, int stride = 1, DType dtype = DType::none,
                  bool bias = true) const;
  ValueId conv1x1(const std::string& name, ValueId x, int64_t out, DType dtype = DType::none) const;
  ValueId conv(const std::string& name, ValueId x, int64_t out, const Conv2dAttrs& attrs, DType dtype = DType::none,
               bool bias = true) const;
  ValueId group_norm(const std::string& name, ValueId x, int64_t groups, float eps) const;
  ValueId layer_norm(const std::string& name, ValueId x, float eps) const;
  ValueId activation(const std::string& name, ValueId x, Activation activation, DType dtype = DType::none) const;
  ValueId add(const std::string& name, ValueId a, ValueId b, DType dtype = DType::none) const;
  // q [B, N, C], k v [B, M, C] → [B, N, C]; scale 1/√(C/heads).
  ValueId attention(const std::string& name, ValueId q, ValueId k, ValueId v, int64_t heads, bool causal = false) const;

 private:
  Graph* graph_;
  std::string component_;
  std::string path_;
};

}  // namespace darkroom

// CLIP's text encoder (CLIP-L, OpenCLIP-H, OpenCLIP-bigG) as a graph.
// Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision (2021).
#pragma once

#include <string>

#include "model/configs.h"
#include "runtime/graph.h"

namespace darkroom {

// Inputs    "input_ids" [B, N] i32, N ≤ max_position_embeddings; with pooled: "eos_index" [B] i32
// Outputs   as asked for, f32:
//   "hidden"        [B, N, C] the hidden state after `layers` layers (0: the embeddings); with final_norm through the final
//                   LayerNorm. All layers with it is last_hidden_state; L−1 without is XL's penultimate state; L−k with it
//                   is "clip skip k+1" of the web UIs.
//   "hidden_states.i" for every i, with all_hidden
//   "pooled"        [B, C] the row at eos_index of the last layer's state after the final LayerNorm
//   "text_embeds"   [B, projection_dim] the pooled row through text_projection, where the model has one
struct ClipGraphOptions {
  int64_t batch = 1;
  int64_t tokens = 77;
  int64_t layers = -1;  // −1: all
  bool final_norm = true;
  bool pooled = false;
  bool all_hidden = false;
  DType dtype = DType::f32;
};

// `component`: "text_encoder" or "text_encoder_2". Weights are named "<component>/text_model.…".
// Throws usage_error where the options do not fit the config.
Graph build_clip(const ClipTextConfig& config, const std::string& component, const ClipGraphOptions& options);

}  // namespace darkroom

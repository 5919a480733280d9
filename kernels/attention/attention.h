// attention: out = softmax(scale · Q Kᵀ + mask) V per head, in tiles with a running maximum and sum; the N×M matrix is
// never whole in memory.   Source: Dao et al., FlashAttention (2022); Milakov, Gimelshein, Online softmax (2018).
#pragma once

namespace darkroom {

// q [B, N, NH·D], k v [B, M, NH·D], out [B, N, NH·D]: head h is columns h·D … h·D+D−1. Rows may be strided (slices of a
// packed QKV). f32 or bf16, all of one dtype; softmax and accumulation in f32. causal: key j is seen by query i for j ≤ i
// (N = M).
struct AttentionAttrs {
  enum In { kQ, kK, kV };
  int heads = 1;
  float scale = 1.0f;  // usually 1/√D
  bool causal = false;

  bool operator==(const AttentionAttrs&) const = default;
};

}  // namespace darkroom

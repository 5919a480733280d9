// embedding: out[b,n] = table[ids[b,n]] + positions[n].   select_rows: out[b] = x[b, index[b]].
#pragma once

namespace darkroom {

// ids [B, N] i32, table [V, C] and positions [P ≥ N, C] (optional) as stored: f32, f16 or bf16; out [B, N, C] f32 or bf16.
// An id outside 0 … V−1 is clamped: callers check ids where they enter.
struct EmbeddingAttrs {
  enum In { kIds, kTable, kPositions };

  bool operator==(const EmbeddingAttrs&) const = default;
};

// x [B, N, C], index [B] i32 (clamped to 0 … N−1), out [B, C]; x and out f32 or bf16, each for itself.
struct SelectRowsAttrs {
  enum In { kX, kIndex };

  bool operator==(const SelectRowsAttrs&) const = default;
};

}  // namespace darkroom

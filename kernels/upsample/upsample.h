// upsample: nearest neighbour, out[b,y,x] = in[b, floor(y·H/OH), floor(x·W/OW)].
#pragma once

#include <cstdint>

namespace darkroom {

// x [B, H, W, C], out [B, height, width, C]; one dtype, f32 or bf16.
struct UpsampleAttrs {
  enum In { kX };
  int64_t height = 0, width = 0;

  bool operator==(const UpsampleAttrs&) const = default;
};

}  // namespace darkroom

// to_rgb: out = round(255 · clamp(x/2 + 1/2, 0, 1)), what a decoder makes as 8-bit pixels.
#pragma once

namespace darkroom {

// x [.., C] f32 or bf16 or f16, about −1 … 1, rows may be strided; out u8, dense. Halves go to the even number; NaN to 0.
struct ToRgbAttrs {
  enum In { kX };

  bool operator==(const ToRgbAttrs&) const = default;
};

}  // namespace darkroom

// to_rgb: out = round(255 · clamp(x · scale + shift, 0, 1)), what a decoder makes as 8-bit pixels.
#pragma once

namespace darkroom {

// x [.., C] f32 or bf16 or f16, about −1 … 1 unless scale and shift say otherwise, rows may be strided; out u8, dense. Halves go to
// the even number; NaN to 0.
struct ToRgbAttrs {
  enum In { kX };
  float scale = 0.5f, shift = 0.5f;

  bool operator==(const ToRgbAttrs&) const = default;
};

}  // namespace darkroom

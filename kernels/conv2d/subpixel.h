// conv2d 3×3 of a picture enlarged twice as four 2×2 convolutions of the picture as it is, one for each place (py, px) of an output
// pixel in its two by two: what its kernels share, on CPUs and GPUs.
//
//   out[2y + py, 2x + px] = Σ_{i,j < 2} in[y − 1 + py + i, x − 1 + px + j] · S[py, px, i, j]
//
// Of three taps in a direction two read the same source pixel: for py = 0 the last two, for py = 1 the first two. S holds the
// sums of their weights, made at load: 4 multiplications an output in place of 9. The sums are rounded once more than weights are
// (KernelDef::inexact).
// Source: Shi et al., Real-Time Single Image and Video Super-Resolution (2016), for the form.
#pragma once

#include "kernels/core/kernel.h"

namespace darkroom::subpixel {

inline constexpr int kPhases = 4, kTaps = 4;  // phase 2 · py + px, tap 2 · i + j

// nullptr, or why a conv2d has no such form.
static inline const char* reject(const KernelCall& call) {
  const auto& a = call.attributes<Conv2dAttrs>();
  const Shape& x = call.in[Conv2dAttrs::kX].shape;
  if (a.upsample_height != 2 * x[1] || a.upsample_width != 2 * x[2]) return "the picture is not enlarged twice";
  if (a.kernel != 3 || a.stride != 1 || a.pad_top != 1 || a.pad_left != 1 || a.pad_bottom != 1 || a.pad_right != 1)
    return "not a 3x3 convolution with a border of one pixel";
  return nullptr;
}

// S of one phase and tap, from the nine weights of an output and input channel; the sum is taken in f32.
static inline float weight(const float* nine, int phase, int tap) {
  // Of a side: which of the three weights meet in tap i of place p, from the first to before the last.
  constexpr int kBegin[2][2] = {{0, 1}, {0, 2}}, kEnd[2][2] = {{1, 3}, {2, 3}};
  float sum = 0;
  for (int y = kBegin[phase / 2][tap / 2]; y < kEnd[phase / 2][tap / 2]; ++y)
    for (int x = kBegin[phase % 2][tap % 2]; x < kEnd[phase % 2][tap % 2]; ++x) sum += nine[3 * y + x];
  return sum;
}

}  // namespace darkroom::subpixel

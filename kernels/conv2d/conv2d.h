// conv2d: out[b,y,x,n] = epilogue( Σ_{ky,kx,c} in[b, y·s+ky−pad_top, x·s+kx−pad_left, c] · W[n,c,ky,kx] ), zeros outside.
#pragma once

#include <cstdint>

#include "kernels/core/epilogue.h"

namespace darkroom {

// in [B, H, W, C1], second source [B, H, W, C2] (optional: the input is their concat along C, never written anywhere),
// weight [N, C1+C2, K, K] as checkpoints have it (f32, f16 or bf16; packed at load), bias [N] f32, row_bias [B, N] f32,
// residual [B, OH, OW, N] of the output's dtype; out [B, OH, OW, N]. in and out are f32 or bf16, each for itself.
// upsample_height/width > 0: the source is first enlarged to that size by nearest neighbour, source pixel
// floor(y · H / upsample_height); padding and stride apply to the enlarged picture. Implicit GEMM: no im2col buffer.
// int8: as in gemm.h, with one scale for all of a sample's input.
struct Conv2dAttrs {
  enum In { kX, kX2, kWeight, kBias, kRowBias, kResidual };
  int kernel = 3;  // 1 or 3
  int stride = 1;  // 1 or 2
  int pad_top = 1, pad_left = 1, pad_bottom = 1, pad_right = 1;
  int64_t upsample_height = 0, upsample_width = 0;
  Epilogue epilogue;
  bool int8 = false;

  bool operator==(const Conv2dAttrs&) const = default;
};

// norm_conv2d: conv2d of f((in − mean) · scale + shift), f an activation: a group_norm applied where the convolution reads, by
// what group_norm_stats found. The zeros outside stay zeros. Slots as above, and norm [B, 3, C1+C2] f32: for each channel
// of each sample mean, scale and shift.
struct NormConv2dAttrs : Conv2dAttrs {
  enum { kNorm = kResidual + 1 };
  Activation norm_activation = Activation::none;

  bool operator==(const NormConv2dAttrs&) const = default;
};

}  // namespace darkroom

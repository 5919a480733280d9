// group_norm: y = (x − mean) / √(var + eps) · gamma + beta over each sample's group of C/G channels and all its pixels.
// group_norm_silu: silu of that, in one pass.   Source: Wu, He, Group Normalization (2018).
#pragma once

namespace darkroom {

// x [B, .., C] (pixels may be strided), second source [B, .., C2] (optional: normalises the concat along C, groups may
// straddle the seam), gamma beta [C+C2] f32; out [B, .., C+C2]. x and out f32 or bf16, each for itself; statistics in f32
// or better, stable for a mean much larger than the deviation.
// moments [B, slabs, 3, C] f32 of x, moments2 [B, slabs2, 3, C2] of the second source (optional, both sources or none): what the
// kernels that wrote these know of them (KernelCall::moments). A kernel may take the statistics from there, or from x.
struct GroupNormAttrs {
  enum In { kX, kX2, kGamma, kBeta, kMoments, kMoments2 };
  int groups = 32;
  float eps = 1e-5f;

  bool operator==(const GroupNormAttrs&) const = default;
};

struct GroupNormSiluAttrs : GroupNormAttrs {
  bool operator==(const GroupNormSiluAttrs&) const = default;
};

// group_norm_stats: the first half, for norm_conv2d to apply. Same inputs; out [B, 3, C+C2] f32: for each channel the mean,
// the scale gamma / √(var + eps), and what is added after both.
struct GroupNormStatsAttrs : GroupNormAttrs {
  bool operator==(const GroupNormStatsAttrs&) const = default;
};

}  // namespace darkroom

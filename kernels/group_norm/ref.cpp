// The definition of group_norm: per sample and group the mean, then the mean square deviation, in double.
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[GroupNormAttrs::kX].dtype))
    return "x and out must be f32 or bf16";
  const TensorView& x2 = call.in[GroupNormAttrs::kX2];
  if (x2.present() && !is_activation_type(x2.dtype)) return "the second source must be f32 or bf16";
  return nullptr;
}

// Element c of pixel p of sample b in the concat of x and x2.
Real load(const KernelCall& call, int64_t b, int64_t p, int64_t pixels, int64_t c) {
  const TensorView& x = call.in[GroupNormAttrs::kX];
  const int64_t C = x.channels();
  const TensorView& source = c < C ? x : call.in[GroupNormAttrs::kX2];
  return ref_load(source, ref_row_offset(source, b * pixels + p) + (c < C ? c : c - C));
}

enum class Result { normed, normed_silu, statistics };

void normalize(const KernelCall& call, const Team& team, const GroupNormAttrs& attrs, Result result) {
  const TensorView &gamma = call.in[GroupNormAttrs::kGamma], &beta = call.in[GroupNormAttrs::kBeta];
  const int64_t B = call.out.shape[0], pixels = call.in[GroupNormAttrs::kX].rows() / B, G = attrs.groups;
  const int64_t channels = gamma.channels() / G;  // of a group
  const Real count = Real(pixels * channels);

  const auto [first, last] = team.range(B * G);
  for (int64_t item = first; item < last; ++item) {
    const int64_t b = item / G, begin = item % G * channels, end = begin + channels;
    Real sum = 0;
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = begin; c < end; ++c) sum += load(call, b, p, pixels, c);
    const Real mean = sum / count;
    Real squares = 0;
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = begin; c < end; ++c) {
        const Real d = load(call, b, p, pixels, c) - mean;
        squares += d * d;
      }
    const Real scale = 1.0 / std::sqrt(squares / count + Real(attrs.eps));
    if (result == Result::statistics) {
      for (int64_t c = begin; c < end; ++c) {
        const int64_t at = b * call.out.stride[0] + c, row = call.out.stride[1];
        ref_store(call.out, at, mean);
        ref_store(call.out, at + row, scale * ref_load(gamma, c));
        ref_store(call.out, at + 2 * row, ref_load(beta, c));
      }
      continue;
    }
    for (int64_t p = 0; p < pixels; ++p)
      for (int64_t c = begin; c < end; ++c) {
        Real y = (load(call, b, p, pixels, c) - mean) * scale * ref_load(gamma, c) + ref_load(beta, c);
        if (result == Result::normed_silu) y = y / (1.0 + std::exp(-y));
        ref_store(call.out, ref_row_offset(call.out, b * pixels + p) + c, y);
      }
  }
}

void launch(const KernelCall& call, const Team& team) {
  normalize(call, team, call.attributes<GroupNormAttrs>(), Result::normed);
}

void launch_silu(const KernelCall& call, const Team& team) {
  normalize(call, team, call.attributes<GroupNormSiluAttrs>(), Result::normed_silu);
}

void launch_stats(const KernelCall& call, const Team& team) {
  normalize(call, team, call.attributes<GroupNormStatsAttrs>(), Result::statistics);
}

}  // namespace

extern const KernelDef group_norm_ref, group_norm_silu_ref, group_norm_stats_ref;
const KernelDef group_norm_ref = {
    .op = OpKind::group_norm,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};
const KernelDef group_norm_silu_ref = {
    .op = OpKind::group_norm_silu,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_silu,
};
const KernelDef group_norm_stats_ref = {
    .op = OpKind::group_norm_stats,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_stats,
};

}  // namespace darkroom::kernels

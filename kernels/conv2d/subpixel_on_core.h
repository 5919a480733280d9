// conv2d 3×3 of a picture enlarged twice (subpixel.h) on any core of the frame (core/gemm_frame.h): four implicit GEMMs, one after
// the other.
#pragma once

#include "kernels/conv2d/implicit_on_core.h"
#include "kernels/conv2d/subpixel.h"

namespace darkroom::subpixel_on_core {

using namespace gemm_frame;

using subpixel::kPhases, subpixel::kTaps;

template <typename Core>
static const char* reject(const KernelCall& call) {
  if (const char* reason = subpixel::reject(call)) return reason;
  if (call.attributes<Conv2dAttrs>().epilogue.geglu) return "it has no GEGLU";
  return implicit_on_core::reject<Core>(call);
}

static inline int64_t depth(const TensorView& weight) { return weight.shape[1] * kTaps; }

// Of one phase.
template <typename Core>
static size_t phase_bytes(const TensorView& weight) {
  return packed_bytes<Core>(weight.shape[0], depth(weight), false, weight.dtype);
}
template <typename Core>
static size_t weight_bytes(const KernelCall& call) {
  return kPhases * phase_bytes<Core>(call.in[Conv2dAttrs::kWeight]);
}

template <typename Core>
static void pack(const KernelCall&, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = parts[0];
  const int64_t N = weight.shape[0], C = weight.shape[1], panels = panels_of<Core>(N, false);
  const DType type = Core::packed_type(weight.dtype);
  const size_t bytes = panel_bytes<Core>(depth(weight), weight.dtype);
  for (int64_t i = kPhases * panels * team.index / team.count; i < kPhases * panels * (team.index + 1) / team.count;
       ++i) {
    const int phase = int(i / panels);
    char* block = static_cast<char*>(packed) + size_t(i) * bytes;
    memset(block, 0, bytes);
    for (int64_t lane = 0; lane < Core::kNr; ++lane) {
      const int64_t n = channel_of<Core>(i % panels, lane, N, false);
      if (n < 0) continue;
      for (int64_t c = 0; c < C; ++c) {
        float nine[9];
        for (int64_t tap = 0; tap < 9; ++tap)
          convert_element(weight.data, weight.dtype, (n * C + c) * 9 + tap, nine, DType::f32, tap);
        for (int tap = 0; tap < kTaps; ++tap) {
          const float s = subpixel::weight(nine, phase, tap);
          convert_element(&s, DType::f32, 0, block, type, place_in_panel<Core>(tap * C + c, lane));
        }
      }
    }
  }
  team.sync();
}

template <typename Core>
static size_t scratch_bytes(const KernelCall& call, int team) {
  return size_t(team) * scratch_bytes_per_member<Core>(depth(call.in[Conv2dAttrs::kWeight]));
}

// Every second pixel of a picture in both directions, from (py, px) on.
static inline TensorView phase_view(TensorView v, int py, int px) {
  if (!v.present()) return v;
  v.data = static_cast<char*>(v.data) + size_t(py * v.stride[1] + px * v.stride[2]) * dtype_size(v.dtype);
  for (int dim : {1, 2}) {
    v.shape[dim] /= 2;
    v.stride[dim] *= 2;
  }
  return v;
}

template <typename Core>
static void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  const TensorView &x = call.in[Conv2dAttrs::kX], &weight = call.in[Conv2dAttrs::kWeight];
  for (int phase = 0; phase < kPhases; ++phase) {
    const int py = phase / 2, px = phase % 2;
    const Product product = {
        .m = x.shape.rows(),
        .k = depth(weight),
        .panels = panels_of<Core>(weight.shape[0], false),
        .weight = static_cast<const char*>(call.packed) + size_t(phase) * phase_bytes<Core>(weight),
        .weight_type = weight.dtype};
    const Store store = {.out = phase_view(call.out, py, px),
                         .bias = call.in[Conv2dAttrs::kBias],
                         .row_bias = call.in[Conv2dAttrs::kRowBias],
                         .residual = phase_view(call.in[Conv2dAttrs::kResidual], py, px),
                         .rows_per_sample = x.shape[1] * x.shape[2],
                         .activation = attrs.epilogue.activation};
    implicit_on_core::PixelWindows<Core> windows;
    implicit_on_core::fill_windows(call, windows);
    windows.kernel = 2;
    windows.pad_top = 1 - py;
    windows.pad_left = 1 - px;
    windows.enlarged_height = windows.out_height = x.shape[1];
    windows.enlarged_width = windows.out_width = x.shape[2];
    run<Core>(product, store, windows, call.scratch, team);
  }
}

}  // namespace darkroom::subpixel_on_core

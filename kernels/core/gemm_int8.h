// Products of int8 in the frame of gemm_frame.h: how weights and rows become whole numbers, and sums f32 again.
//
//   weight   q = round(w · (127 / max|w|)), one maximum per output channel; scale max|w| / 127
//   A        q = round(a · (127 / max|a|)), one maximum per row (gemm) or sample (conv2d); scale max|a| / 127
//   sum      Σ q q exactly, in int32: K up to 65536 cannot overflow; times the two scales it enters the epilogue
//
// All in f32, rounded to nearest even, so that `ref` gets the same whole numbers. A maximum below kTiny counts as zero.
// A NaN makes the maximum a NaN, and through the scale the whole row.
//
// An int8 core has in place of copy()
//
//   kOffset                        what is added to q in a cell: 128 where the instruction wants them unsigned
//   max_bits(from, n, max)         the largest bit pattern of |x|, and `max`
//   quantize(from, n, factor, to)  cells round(x · factor) + kOffset
//   scale_tile(tile, rows, row_scales, channel_scales, corrections)   int32 sums to f32, in place
#pragma once

#include <xmmintrin.h>

#include "kernels/core/gemm_frame.h"

namespace darkroom::gemm_int8 {

using namespace gemm_frame;

inline constexpr float kTiny = 1e-30f;
inline constexpr int64_t kMaxDepth = 65536;

// Behind the panels, for each lane of each panel: the scale of its channel, and kOffset · Σ q, to be taken off the sum.
struct Channels {
  const float* scale;
  const int32_t* correction;
};
template <typename Core>
static size_t packed_bytes_int8(int64_t channels, int64_t k, bool geglu, DType stored) {
  return packed_bytes<Core>(channels, k, geglu, stored) +
         size_t(panels_of<Core>(channels, geglu) * Core::kNr) * (sizeof(float) + sizeof(int32_t));
}
template <typename Core>
static Channels channels_of(const void* packed, int64_t panels, int64_t k, DType stored) {
  const char* base = static_cast<const char*>(packed) + size_t(panels) * panel_bytes<Core>(k, stored);
  const float* scale = reinterpret_cast<const float*>(base);
  return {scale, reinterpret_cast<const int32_t*>(scale + panels * Core::kNr)};
}

// One output channel, [inner][taps], into lane `lane` of a panel; its scale and correction.
template <typename Core, typename T>
static void pack_channel_int8(const T* weight, int64_t inner, int64_t taps, int64_t lane, int8_t* panel, float* scale,
                              int32_t* correction) {
  float max = 0;
  for (int64_t i = 0; i < inner * taps; ++i) {
    const float x = to_float(weight[i]), magnitude = x < 0 ? -x : x;
    if (magnitude > max) max = magnitude;
  }
  if (max < kTiny) return;
  *scale = max / 127.0f;
  const float factor = 127.0f / max;
  int32_t sum = 0;
  for (int64_t c = 0; c < inner; ++c)
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int32_t q = _mm_cvtss_si32(_mm_set_ss(to_float(weight[c * taps + tap]) * factor));
      panel[place_in_panel<Core>(tap * inner + c, lane)] = int8_t(q);
      sum += q;
    }
  *correction = Core::kOffset * sum;
}

// As pack_panels() of the frame, rounded to int8.
template <typename Core>
static void pack_panels_int8(std::span<const TensorView> parts, int64_t channels, int64_t inner, int64_t taps,
                             bool geglu, DType stored, void* packed, const Team& team) {
  const int64_t panels = panels_of<Core>(channels, geglu), k = inner * taps;
  const size_t bytes = panel_bytes<Core>(k, stored);
  const Channels all = channels_of<Core>(packed, panels, k, stored);
  for (int64_t panel = panels * team.index / team.count; panel < panels * (team.index + 1) / team.count; ++panel) {
    int8_t* block = static_cast<int8_t*>(packed) + size_t(panel) * bytes;
    memset(block, 0, bytes);
    for (int64_t lane = 0; lane < Core::kNr; ++lane) {
      float* scale = const_cast<float*>(all.scale) + panel * Core::kNr + lane;
      int32_t* correction = const_cast<int32_t*>(all.correction) + panel * Core::kNr + lane;
      *scale = 0;
      *correction = 0;
      int64_t n = channel_of<Core>(panel, lane, channels, geglu);
      if (n < 0) continue;
      size_t part = 0;
      while (part < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
      if (part == parts.size()) continue;
      const TensorView& w = parts[part];
      if (w.dtype == DType::f32)
        pack_channel_int8<Core>(w.as<float>() + n * k, inner, taps, lane, block, scale, correction);
      if (w.dtype == DType::f16)
        pack_channel_int8<Core>(w.as<f16_t>() + n * k, inner, taps, lane, block, scale, correction);
      if (w.dtype == DType::bf16)
        pack_channel_int8<Core>(w.as<bf16_t>() + n * k, inner, taps, lane, block, scale, correction);
    }
  }
  team.sync();
}

// The factor and the scale of a row whose largest magnitude has these bits.
struct RowScale {
  float factor, scale;
};
static inline RowScale row_scale(uint32_t max_bits) {
  float max;
  memcpy(&max, &max_bits, sizeof max);
  if (max < kTiny) return {0, 0};
  return {127.0f / max, max / 127.0f};
}

// Prologue of gemm: rows of a matrix, each with a scale of its own.
template <typename Core>
struct QuantizedRows {
  TensorView a;
  Channels channels;
  int64_t rows;
  int64_t offset[Core::kMaxMc];
  float factor[Core::kMaxMc], scale[Core::kMaxMc];
};
template <typename Core>
static void begin(QuantizedRows<Core>& p, int64_t first, int64_t rows) {
  p.rows = rows;
  row_offsets(p.a, first, rows, p.offset);
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t k = p.a.shape[-1];
    const RowScale s =
        row_scale(p.a.dtype == DType::bf16 ? Core::max_bits(static_cast<const bf16_t*>(p.a.data) + p.offset[r], k, 0)
                                           : Core::max_bits(static_cast<const float*>(p.a.data) + p.offset[r], k, 0));
    p.factor[r] = s.factor;
    p.scale[r] = s.scale;
  }
}
template <typename Core>
static void gather(const QuantizedRows<Core>& p, int64_t k_begin, int64_t k_end, typename Core::Cell* block) {
  for (int64_t r = 0; r < p.rows; ++r) {
    const int64_t from = p.offset[r] + k_begin, n = k_end - k_begin;
    if (p.a.dtype == DType::bf16)
      Core::quantize(static_cast<const bf16_t*>(p.a.data) + from, n, p.factor[r], block + r * Core::kLda);
    else
      Core::quantize(static_cast<const float*>(p.a.data) + from, n, p.factor[r], block + r * Core::kLda);
  }
}
template <typename Core>
static const float* finish_sums(const QuantizedRows<Core>& p, int32_t* tile, int64_t row, int64_t rows, int64_t panel) {
  return Core::scale_tile(tile, rows, p.scale + row, p.channels.scale + panel * Core::kNr,
                          p.channels.correction + panel * Core::kNr);
}

}  // namespace darkroom::gemm_int8

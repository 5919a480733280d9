#include "kernels/core/gemm_call.h"

#include <cstring>

#include "kernels/conv2d/subpixel.h"
#include "kernels/core/reject.h"

namespace darkroom {

namespace {

constexpr int64_t kColumnPadding = 128;

int64_t blocks_of(const TensorView& v, int64_t block) { return v.present() ? (v.channels() + block - 1) / block : 0; }

float element(const TensorView& v, int64_t i) {
  if (v.dtype == DType::f32) return v.as<float>()[i];
  if (v.dtype == DType::f16) return to_float(v.as<f16_t>()[i]);
  return to_float(v.as<bf16_t>()[i]);
}
void put(void* to, DType type, int64_t i, float x) {
  if (type == DType::f32) static_cast<float*>(to)[i] = x;
  if (type == DType::f16) static_cast<f16_t*>(to)[i] = to_f16(x);
  if (type == DType::bf16) static_cast<bf16_t*>(to)[i] = to_bf16(x);
}

}  // namespace

int64_t GemmCall::k_blocks(int64_t block) const {
  return taps() * (blocks_of(source[0], block) + blocks_of(source[1], block));
}
int64_t GemmCall::padded_columns() const { return (columns() + kColumnPadding - 1) / kColumnPadding * kColumnPadding; }

GemmCall gemm_call(const KernelCall& call) {
  using S = GemmAttrs;
  GemmCall c;
  c.int8 = call.attributes<GemmAttrs>().int8;
  c.source[0] = call.in[S::kA];
  c.weight = call.in[S::kWeight];
  c.bias = call.in[S::kBias];
  c.row_bias = call.in[S::kRowBias];
  c.residual = call.in[S::kResidual];
  c.out = call.out;
  c.epilogue = call.attributes<GemmAttrs>().epilogue;
  return c;
}

GemmCall conv2d_call(const KernelCall& call) {
  using S = Conv2dAttrs;
  const auto& a = call.attributes<Conv2dAttrs>();
  GemmCall c;
  c.source[0] = call.in[S::kX];
  c.source[1] = call.in[S::kX2];
  c.weight = call.in[S::kWeight];
  c.bias = call.in[S::kBias];
  c.row_bias = call.in[S::kRowBias];
  c.residual = call.in[S::kResidual];
  c.out = call.out;
  c.kernel = a.kernel;
  c.stride = a.stride;
  c.pad_top = a.pad_top;
  c.pad_left = a.pad_left;
  c.seen_height = a.upsample_height;
  c.seen_width = a.upsample_width;
  c.epilogue = a.epilogue;
  c.int8 = a.int8;
  c.moments = call.moments;
  return c;
}

GemmCall subpixel_call(const KernelCall& call) {
  GemmCall c = conv2d_call(call);
  c.kernel = 2;
  c.phases = subpixel::kPhases;
  c.seen_height = c.seen_width = 0;
  return c;
}

int64_t moments_slabs(const GemmCall& c) {
  if (c.epilogue.geglu) return 0;
  const int64_t rows_of_sample = c.rows() / c.out.shape[0];
  return c.phases * ((rows_of_sample + kSlabRows - 1) / kSlabRows);
}

const char* reject_gemm(const GemmCall& c) {
  if (c.int8) return "it does not multiply int8";
  if (!is_weight_type(c.weight.dtype)) return "the weight must be f32, f16 or bf16";
  if (c.source[1].present() && c.source[1].dtype != c.source[0].dtype) return "both sources must be of one dtype";
  if (c.residual.present() && c.residual.dtype != c.out.dtype) return "the residual must be of the output's dtype";
  if (c.bias.present() && c.bias.dtype != DType::f32) return "bias must be f32";
  if (c.row_bias.present() && c.row_bias.dtype != DType::f32) return "row_bias must be f32";
  constexpr int64_t kMost = int64_t(1) << 30;  // rows, columns and pixels are numbered in 32 bits
  const TensorView& x = c.source[0];
  if (c.rows() > kMost / 4 || c.columns() > kMost || x.rows() > kMost || c.k_blocks(1) > kMost)
    return "too large for 32-bit row numbers";
  if (c.rows() * ((c.columns() + 3) / 4) > int64_t(INT32_MAX)) return "too many outputs for 32-bit numbers";
  constexpr int64_t kMostTiles = 65535, kLeastTile = 64;  // of columns, in a grid; columns of each
  if (c.columns() > kMostTiles * kLeastTile) return "more columns than a grid has tiles";
  if (c.seen_height > 16384 || c.seen_width > 16384) return "an enlarged picture beyond 16384 pixels a side";
  return nullptr;
}

size_t packed_rows_bytes(const GemmCall& c, int64_t block, DType type) {
  return size_t(c.phases * c.padded_columns() * c.k_blocks(block) * block) * dtype_size(type);
}

void pack_rows(const GemmCall& c, int64_t block, DType type, std::span<const TensorView> parts, void* packed,
               const Team& team) {
  const int64_t depth = c.k_blocks(block) * block, taps = c.taps(), columns = c.columns();
  const int64_t first = c.source[0].channels(), second = c.source[1].present() ? c.source[1].channels() : 0;
  const int64_t padded_first = blocks_of(c.source[0], block) * block, of_tap = depth / taps;
  const size_t row_bytes = size_t(depth) * dtype_size(type);
  const auto [begin, end] = team.range(c.padded_columns());
  for (int64_t r = begin; r < end; ++r) {
    void* row = static_cast<char*>(packed) + size_t(r) * row_bytes;
    memset(row, 0, row_bytes);
    int64_t n = r;
    if (c.epilogue.geglu) {
      const int64_t value = r / 16 * 8 + r % 8;
      if (value >= columns / 2) continue;
      n = r % 16 < 8 ? value : value + columns / 2;
    }
    if (n >= columns) continue;
    size_t part = 0;
    while (part < parts.size() && n >= parts[part].shape[0]) n -= parts[part++].shape[0];
    if (part == parts.size()) continue;
    const TensorView& w = parts[part];
    for (int64_t i = 0; i < first + second; ++i) {
      const int64_t at = i < first ? i : padded_first + i - first;
      for (int64_t tap = 0; tap < taps; ++tap)
        put(row, type, tap * of_tap + at, element(w, (n * (first + second) + i) * taps + tap));
    }
  }
  team.sync();
}

void pack_subpixel_rows(const GemmCall& c, int64_t block, DType type, const TensorView& weight, void* packed,
                        const Team& team) {
  const int64_t depth = c.k_blocks(block) * block, of_tap = depth / c.taps(), channels = weight.shape[1];
  const int64_t first = c.source[0].channels(), padded_first = blocks_of(c.source[0], block) * block;
  const size_t row_bytes = size_t(depth) * dtype_size(type);
  const auto [begin, end] = team.range(c.phases * c.padded_columns());
  for (int64_t r = begin; r < end; ++r) {
    const int64_t phase = r / c.padded_columns(), n = r % c.padded_columns();
    void* row = static_cast<char*>(packed) + size_t(r) * row_bytes;
    memset(row, 0, row_bytes);
    if (n >= c.columns()) continue;
    for (int64_t i = 0; i < channels; ++i) {
      float nine[9];
      for (int64_t k = 0; k < 9; ++k) nine[k] = element(weight, (n * channels + i) * 9 + k);
      for (int tap = 0; tap < subpixel::kTaps; ++tap)
        put(row, type, tap * of_tap + (i < first ? i : padded_first + i - first),
            subpixel::weight(nine, int(phase), tap));
    }
  }
  team.sync();
}

bool rows_of(int64_t channels, const TensorView& v) {
  if (!v.present()) return true;
  const int64_t size = int64_t(dtype_size(v.dtype)), bytes = channels * size;
  bool ok = reinterpret_cast<uintptr_t>(v.data) % uintptr_t(bytes) == 0 && v.channels() % channels == 0;
  for (int i = 0; i + 1 < v.rank(); ++i) ok = ok && v.stride[size_t(i)] * size % bytes == 0;
  return ok;
}

}  // namespace darkroom

// gemm and conv2d in f32 arithmetic (no TF32), for every type, width and alignment: f32 mode, and what tensor cores refuse. See
// kernels/core/cuda/implicit_gemm.h and fma_tile.h. The next block of K is loaded into registers while one is multiplied.
// Budget: 80 registers on every chip, so that three blocks fit an SM; 27 KB.
#include "kernels/core/cuda/fma_tile.h"
#include "kernels/core/cuda/implicit_gemm.h"
#include "kernels/core/fma_call.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

template <typename A, typename O>
using Params = GemmParams<A, float, O>;

template <typename A, typename O, bool kMoments>
__global__ void __launch_bounds__(kFmaThreads, 3) fma_gemm(const __grid_constant__ Params<A, O> p) {
  const FmaPlace at = fma_place();
  const FmaLoad mine = fma_load_along_k();
  const FmaTile tile = fma_tile();
  const TileRows rows = tile_rows<kMoments, kFmaTile>(blockIdx.x, p.epilogue.rows, p.epilogue.rows_of_sample);
  const uint32_t first_row = rows.first, first_column = blockIdx.y * kFmaTile;
  OutputPixel pixel[kFmaLoads];
  DARKROOM_UNROLL
  for (int i = 0; i < kFmaLoads; ++i)
    pixel[i] = output_pixel(p.gather, first_row + uint32_t(mine.row + i * mine.row_step), rows.end);
  KPosition k{0, 0, 0, 0};
  Global<const float> weight = p.weight + ((first_column + mine.row) * p.depth + mine.k);

  float a[kFmaLoads], b[kFmaLoads], sum[4][4] = {};
  const auto load_block = [&] {
    const uint32_t channel = k.block * kFmaDepth + uint32_t(mine.k);
    DARKROOM_UNROLL
    for (int i = 0; i < kFmaLoads; ++i) {
      const int64_t offset = gathered_pixel(p.gather, pixel[i], k);
      const bool valid = offset >= 0 && channel < p.gather.channels[k.source];
      a[i] = valid ? widen(load(p.source[k.source] + (offset + channel))) : 0.0f;
      b[i] = load(weight + i * mine.row_step * p.depth);
    }
    weight += kFmaDepth;
    advance(k, p.gather);
  };

  load_block();
  for (uint32_t k_block = 0; k_block < p.k_blocks; ++k_block) {
    float now_a[kFmaLoads], now_b[kFmaLoads];
    DARKROOM_UNROLL
    for (int i = 0; i < kFmaLoads; ++i) {
      now_a[i] = a[i];
      now_b[i] = b[i];
    }
    if (k_block + 1 < p.k_blocks) load_block();
    fma_step(sum, tile, at, mine, now_a, mine, now_b);
  }

  // A warp holds 8 rows × 64 columns.
  constexpr int kWarps = kFmaThreads / kWarp, kPitch = kSlicePitch<kFmaTile>;
  const Shared<float> slices = shared_array<float, kWarps * 8 * kPitch, 0>(),
                      slice = slices + warp_index() * 8 * kPitch;
  DARKROOM_UNROLL
  for (int i = 0; i < 4; ++i)
    store(as<Vec<float, 4>>(slice + ((at.sum_row % 8 + i) * kPitch + at.sum_column)),
          Vec<float, 4>{{sum[i][0], sum[i][1], sum[i][2], sum[i][3]}});
  sync_warp();
  std::conditional_t<kMoments, ColumnSums, NoColumnSums> column_sums;
  store_slice<8, kFmaTile>(p, slice, first_row + uint32_t(warp_index()) * 8, rows.end, first_column, column_sums);
  if constexpr (kMoments) {
    sync_warp();
    store_piece<kSliceLanes<kFmaTile>>(column_sums, slice, kPitch);
    store_slabs<kWarps, 1, 8, kFmaTile, 8 * kPitch>(p.epilogue.moments, slices, kPitch, rows, 0, first_column,
                                                    p.epilogue.columns);
  }
}

template <typename A, typename O>
void enqueue_types(const GemmCall& c, const void* packed, const Stream& stream) {
  Params<A, O> p = gemm_params<A, float, O>(c, kFmaBlock);
  p.weight = global<const float>(packed, size_t(c.padded_columns() * p.depth), "weight");
  launch_grid(stream, "gemm_fma", {blocks_of_rows(c, kFmaTile), blocks_for(c.columns(), kFmaTile)}, kFmaThreads, 0,
              c.moments.present() ? fma_gemm<A, O, true> : fma_gemm<A, O, false>, p);
}

const char* reject(const KernelCall& call) { return reject_fma(gemm_call(call)); }
size_t packed_bytes(const KernelCall& call) { return packed_rows_bytes(gemm_call(call), kFmaBlock, DType::f32); }
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  pack_rows(gemm_call(call), kFmaBlock, DType::f32, parts, packed, team);
}
void enqueue(const KernelCall& call, const Stream& stream) { enqueue_fma(gemm_call(call), call.packed, stream); }

}  // namespace

extern const KernelDef gemm_sm80_fma;
const KernelDef gemm_sm80_fma = {
    .op = OpKind::gemm,
    .variant = "sm80_fma",
    .isa = Isa::sm80,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = "sm80_rows_f32",
    .packed_bytes = packed_bytes,
    .pack = pack,
    .enqueue = enqueue,
};

}  // namespace darkroom::kernels

namespace darkroom {

const char* reject_fma(const GemmCall& c) {
  if (!cuda::is_type_pair(c.source[0].dtype, c.out.dtype))
    return "A and out must be f32, bf16 or f16, not bf16 and f16";
  return reject_gemm(c);
}

namespace cuda {

void enqueue_fma(const GemmCall& c, const void* packed, const Stream& stream) {
  const DType a = c.source[0].dtype, out = c.out.dtype;
  if (a == DType::f32 && out == DType::f16) kernels::enqueue_types<float, f16_t>(c, packed, stream);
  if (a == DType::f32 && out != DType::f16) kernels::enqueue_types<float, bf16_t>(c, packed, stream);
  if (a == DType::bf16) kernels::enqueue_types<bf16_t, bf16_t>(c, packed, stream);
  if (a == DType::f16) kernels::enqueue_types<f16_t, f16_t>(c, packed, stream);
}

}  // namespace cuda
}  // namespace darkroom

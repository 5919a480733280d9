// gemm and conv2d on tensor cores: prologue → mma.sync → epilogue, for bf16 and f16. See kernels/core/cuda/implicit_gemm.h.
//
//   block      BM × BN outputs; K in blocks of 32 elements through a ring of kStages in shared memory, filled by cp.async
//              (16 bytes a copy, zeros for padding), so that kStages − 1 blocks of K are on their way while one is used.
//   warp       WM × WN of it: for each 16 of K, WM/16 + WN/16 ldmatrix.x4 feed WM/16 · WN/8 mma.m16n8k16.
//   shared     a row of 32 elements is four 16-byte chunks; chunk c of row r lies at c ^ (r/2 % 4): the eight rows of a matrix
//              that ldmatrix reads, and the eight chunks that a quarter of a warp copies, touch all banks once.
//   epilogue   sums go through shared memory 16 rows of a warp at a time (the ring is free by then), so that bias, residual and
//              output move in whole sectors.
//   split K    where the tiles alone do not fill the card; sums of the splits are added in order by a second kernel.
//   moments    of what a convolution stores, from the epilogue or that second kernel (moments.h): a form of its own, whose tiles
//              end where a sample does.
//
// Budget, 128×128: 128 accumulators + 32 fragments + addresses < 255 registers, 128 threads; 64 KB of shared memory: 2 blocks an
// SM on sm_80 and later, 1 on sm_86/89 (100 KB). 256×128: as much a thread, 256 threads, 96 KB, 1 block; an output takes three
// quarters of the bytes from L2, for which 128×128 waits where a card has many SMs.
// Source: NVIDIA's documents of mma.sync and ldmatrix; the multistage pipeline as in Thakkar et al., CUTLASS (2017-).
#include "kernels/core/cuda/implicit_gemm.h"
#include "kernels/core/mma_plan.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kBlock = kMmaBlock;  // of K, in elements
constexpr int kChunks = kBlock / 8;
constexpr int kStages = 4;

template <int BM, int BN, int kWarpsM, int kWarpsN, int kResident>
struct Tile {
  static constexpr int M = BM, N = BN, WarpsM = kWarpsM, WarpsN = kWarpsN, Resident = kResident;
  static constexpr int WM = BM / kWarpsM, WN = BN / kWarpsN, Threads = kWarp * kWarpsM * kWarpsN;
  static constexpr int StageElements = (BM + BN) * kBlock;
  static constexpr int RingBytes = kStages * StageElements * 2;
  static constexpr int SliceBytes = kWarpsM * kWarpsN * 16 * kSlicePitch<WN> * 4;
  static constexpr int SharedBytes = RingBytes > SliceBytes ? RingBytes : SliceBytes;
};
// As kMmaTiles has them.
using Huge = Tile<256, 128, 4, 2, 1>;
using Large = Tile<128, 128, 2, 2, 2>;
using Medium = Tile<128, 64, 2, 2, 3>;
using Small = Tile<64, 64, 2, 2, 3>;

// Element offset of chunk c of row r in a stage.
DARKROOM_DEVICE int swizzled(int row, int chunk) { return row * kBlock + (chunk ^ (row / 2 % kChunks)) * 8; }

template <typename T, typename Tile, bool kMoments>
__global__ void __launch_bounds__(Tile::Threads, Tile::Resident)
    mma_gemm(const __grid_constant__ GemmParams<T, T, T> p) {
  constexpr int kRowsAtOnce = Tile::Threads / kChunks;
  constexpr int kRowsA = Tile::M / kRowsAtOnce, kRowsB = Tile::N / kRowsAtOnce;  // of a thread, in each block of K
  constexpr int kFragmentsM = Tile::WM / 16, kFragmentsN = Tile::WN / 8;
  const int thread = int(threadIdx.x), lane = lane_index(), warp = warp_index();
  const TileRows rows = tile_rows<kMoments, Tile::M>(blockIdx.x, p.epilogue.rows, p.epilogue.rows_of_sample);
  const uint32_t first_row = rows.first, first_column = blockIdx.y * Tile::N;
  const uint32_t phase = phase_of(p), k_begin = blockIdx.z / p.phases * p.k_blocks_of_split;
  const uint32_t k_end = k_begin + p.k_blocks_of_split < p.k_blocks ? k_begin + p.k_blocks_of_split : p.k_blocks;
  const Shared<T> ring = dynamic_shared<T>();

  // What this thread copies: one chunk of every kRowsAtOnce-th row.
  const int chunk = thread % kChunks, copied_row = thread / kChunks;
  OutputPixel pixel[kRowsA];
  DARKROOM_UNROLL
  for (int i = 0; i < kRowsA; ++i) {
    pixel[i] = output_pixel(p.gather, first_row + uint32_t(copied_row + i * kRowsAtOnce), rows.end);
    pixel[i].y += int32_t(phase / 2);
    pixel[i].x += int32_t(phase % 2);
  }
  KPosition k = k_position(p.gather, k_begin);
  int64_t offset[kRowsA];
  const auto aim = [&] {  // at a new tap or source
    DARKROOM_UNROLL
    for (int i = 0; i < kRowsA; ++i) offset[i] = gathered_pixel(p.gather, pixel[i], k);
  };
  aim();

  const auto copy_block = [&](uint32_t k_block) {
    const Shared<T> a = ring + int(k_block - k_begin) % kStages * Tile::StageElements, b = a + Tile::M * kBlock;
    const uint32_t channel = k.block * kBlock + uint32_t(chunk) * 8;
    const bool inside = channel < p.gather.channels[k.source];
    const Global<const T> source = p.source[k.source];
    DARKROOM_UNROLL
    for (int i = 0; i < kRowsA; ++i) {
      const bool valid = inside && offset[i] >= 0;
      cp_async<16>(a + swizzled(copied_row + i * kRowsAtOnce, chunk), source + (valid ? offset[i] + channel : 0),
                   valid);
    }
    const Global<const T> weight =
        p.weight + ((phase * p.padded_columns + first_column + copied_row) * p.depth + k_block * kBlock + chunk * 8);
    DARKROOM_UNROLL
    for (int i = 0; i < kRowsB; ++i)
      cp_async<16>(b + swizzled(copied_row + i * kRowsAtOnce, chunk), weight + i * kRowsAtOnce * p.depth, true);
    const int32_t tap_x = k.tap_x, tap_y = k.tap_y;
    const uint32_t from = k.source;
    advance(k, p.gather);
    if (k.tap_x != tap_x || k.tap_y != tap_y || k.source != from) aim();
  };

  DARKROOM_UNROLL
  for (int s = 0; s < kStages - 1; ++s) {
    if (k_begin + s < k_end) copy_block(k_begin + s);
    cp_async_commit();
  }

  float sum[kFragmentsM][kFragmentsN][4] = {};
  const int warp_row = warp / Tile::WarpsN * Tile::WM, warp_column = warp % Tile::WarpsN * Tile::WN;
  for (uint32_t k_block = k_begin; k_block < k_end; ++k_block) {
    cp_async_wait<kStages - 2>();
    sync_block();  // the block of K has arrived for all; and all have done with the one before, whose place is filled next
    if (k_block + kStages - 1 < k_end) copy_block(k_block + kStages - 1);
    cp_async_commit();

    const Shared<const T> a = ring + int(k_block - k_begin) % kStages * Tile::StageElements, b = a + Tile::M * kBlock;
    DARKROOM_UNROLL
    for (int step = 0; step < kBlock / 16; ++step) {
      uint32_t of_a[kFragmentsM][4], of_b[kFragmentsN / 2][4];
      DARKROOM_UNROLL
      for (int m = 0; m < kFragmentsM; ++m)
        ldmatrix<4>(of_a[m], a + swizzled(warp_row + m * 16 + lane % 16, step * 2 + lane / 16));
      DARKROOM_UNROLL
      for (int n = 0; n < kFragmentsN / 2; ++n)
        ldmatrix<4>(of_b[n], b + swizzled(warp_column + n * 16 + lane / 16 * 8 + lane % 8, step * 2 + lane / 8 % 2));
      DARKROOM_UNROLL
      for (int m = 0; m < kFragmentsM; ++m) {
        DARKROOM_UNROLL
        for (int n = 0; n < kFragmentsN; ++n)
          mma_16816<T>(sum[m][n], of_a[m], {of_b[n / 2][n % 2 * 2], of_b[n / 2][n % 2 * 2 + 1]});
      }
    }
  }
  cp_async_wait<0>();
  sync_block();  // the ring is free

  constexpr int kPitch = kSlicePitch<Tile::WN>;
  const Shared<float> slice = dynamic_shared<float>() + warp * 16 * kPitch;
  std::conditional_t<kMoments, ColumnSums, NoColumnSums> column_sums;
  DARKROOM_UNROLL
  for (int m = 0; m < kFragmentsM; ++m) {
    sync_warp();
    DARKROOM_UNROLL
    for (int n = 0; n < kFragmentsN; ++n) {
      DARKROOM_UNROLL
      for (int half = 0; half < 2; ++half)
        store(as<Vec<float, 2>>(slice + ((lane / 4 + half * 8) * kPitch + n * 8 + lane % 4 * 2)),
              Vec<float, 2>{{sum[m][n][half * 2], sum[m][n][half * 2 + 1]}});
    }
    sync_warp();
    store_slice<16, Tile::WN>(p, slice, first_row + uint32_t(warp_row + m * 16), rows.end,
                              first_column + uint32_t(warp_column), column_sums);
  }
  if constexpr (kMoments) {
    sync_warp();
    store_piece<kSliceLanes<Tile::WN>>(column_sums, slice, kPitch);
    store_slabs<Tile::WarpsM, Tile::WarpsN, Tile::WM, Tile::WN, 16 * kPitch>(
        p.epilogue.moments, dynamic_shared<float>(), kPitch, rows, phase, first_column, p.epilogue.columns);
  }
}

template <typename T, typename Tile>
void launch_tile(const Stream& stream, const char* name, const GemmParams<T, T, T>& p, const GemmCall& c) {
  const bool moments = c.moments.present() && p.splits == 1;  // else the splits' sums leave them
  launch_grid(stream, name,
              {moments ? blocks_of_rows(c, Tile::M) : blocks_for(c.rows(), Tile::M), blocks_for(c.columns(), Tile::N),
               p.splits * p.phases},
              Tile::Threads, Tile::SharedBytes, moments ? mma_gemm<T, Tile, true> : mma_gemm<T, Tile, false>, p);
}

template <typename T>
void enqueue_type(const GemmCall& c, const MmaPlan& plan, const void* packed, void* scratch, const Stream& stream) {
  GemmParams<T, T, T> p = gemm_params<T, T, T>(c, kBlock);
  p.weight = global<const T>(packed, size_t(c.phases * c.padded_columns() * p.depth), "weight");
  p.splits = uint32_t(plan.splits);
  p.k_blocks_of_split = uint32_t(ceil_div(p.k_blocks, plan.splits));
  if (plan.splits > 1)
    p.partial = global<float>(scratch, size_t(plan.splits * c.phases * c.rows() * c.padded_columns()), "scratch");
  if (plan.tile == MmaTile::huge) launch_tile<T, Huge>(stream, "gemm_mma_256x128", p, c);
  if (plan.tile == MmaTile::large) launch_tile<T, Large>(stream, "gemm_mma_128x128", p, c);
  if (plan.tile == MmaTile::medium) launch_tile<T, Medium>(stream, "gemm_mma_128x64", p, c);
  if (plan.tile == MmaTile::small) launch_tile<T, Small>(stream, "gemm_mma_64x64", p, c);
  if (plan.splits > 1 && c.moments.present()) {
    const uint32_t blocks = blocks_of_rows(c, kSlabRows) * blocks_for(c.columns(), kReduceColumns);
    launch_grid(stream, "gemm_reduce_splits_and_moments", {blocks, p.phases}, kReduceThreads, 0,
                reduce_splits_and_moments<GemmParams<T, T, T>>, p);
  } else if (plan.splits > 1) {
    const int64_t outputs = c.epilogue.geglu ? c.columns() / 2 : c.columns();
    launch_grid(stream, "gemm_reduce_splits", {blocks_for(c.rows() * ceil_div(outputs, 4), kReduceThreads), p.phases},
                kReduceThreads, 0, reduce_splits<GemmParams<T, T, T>>, p);
  }
}

template <DType kType>
const char* reject(const KernelCall& call) {
  return reject_mma(gemm_call(call), kType);
}
size_t scratch_bytes(const KernelCall& call, int) {
  const GemmCall c = gemm_call(call);
  return mma_scratch_bytes(c, mma_plan(c));
}
template <DType kType>
size_t packed_bytes(const KernelCall& call) {
  return packed_rows_bytes(gemm_call(call), kBlock, kType);
}
template <DType kType>
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  pack_rows(gemm_call(call), kBlock, kType, parts, packed, team);
}
void enqueue(const KernelCall& call, const Stream& stream) {
  const GemmCall c = gemm_call(call);
  enqueue_mma(c, mma_plan(c), call.packed, call.scratch, stream);
}

}  // namespace

extern const KernelDef gemm_sm80_mma_bf16, gemm_sm80_mma_f16;
const KernelDef gemm_sm80_mma_bf16 = {
    .op = OpKind::gemm,
    .variant = "sm80_mma_bf16",
    .isa = Isa::sm80,
    .reject = reject<DType::bf16>,
    .scratch_bytes = scratch_bytes,
    .pack_format = "sm80_rows_bf16",
    .packed_bytes = packed_bytes<DType::bf16>,
    .pack = pack<DType::bf16>,
    .enqueue = enqueue,
};
const KernelDef gemm_sm80_mma_f16 = {
    .op = OpKind::gemm,
    .variant = "sm80_mma_f16",
    .isa = Isa::sm80,
    .reject = reject<DType::f16>,
    .scratch_bytes = scratch_bytes,
    .pack_format = "sm80_rows_f16",
    .packed_bytes = packed_bytes<DType::f16>,
    .pack = pack<DType::f16>,
    .enqueue = enqueue,
};

}  // namespace darkroom::kernels

namespace darkroom::cuda {

void enqueue_mma(const GemmCall& c, const MmaPlan& plan, const void* packed, void* scratch, const Stream& stream) {
  if (c.source[0].dtype == DType::bf16)
    kernels::enqueue_type<bf16_t>(c, plan, packed, scratch, stream);
  else
    kernels::enqueue_type<f16_t>(c, plan, packed, scratch, stream);
}

}  // namespace darkroom::cuda

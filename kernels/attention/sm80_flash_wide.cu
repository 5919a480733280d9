// attention on tensor cores for one wide head, D = 512 (the autoencoder's), bf16 and f16. sm80_flash.cu says how the softmax runs;
// here a row of the output is too long for one warp's registers, so the warps of a block share the queries and divide the columns.
//
//   block      8 warps, 32 queries, keys in tiles of 32.
//   logits     warp w takes 16 queries (w / 4) and 8 keys (w % 4) of a tile: all of its queries stay in registers as 32 fragments,
//              and four chains of mma run side by side, each over a quarter of D.
//   softmax    row maxima of the four warps meet in shared memory; weights go there rounded, 32 × 32, as the left operand of all.
//   values     warp w takes columns 64 w … 64 w + 63 of the output, for all 32 queries.
//   pipeline   keys and values have one buffer each: values arrive while logits are computed, the next keys while values are
//              used. Three barriers a tile.
//   shared     rows 65 chunks of 16 bytes apart, of the weights 5: eight rows of a matrix touch all banks once.
//
// Budget: 128 (Q) + 64 (O) + 16 (S) registers + addresses < 255, 256 threads; 70 KB: one block an SM on every chip. At 4096 queries
// 128 blocks fill an H100's 132 SMs once; 64 queries a block would read K and V half as often and leave half of the SMs idle.
// Source: Dao, FlashAttention-2 (2023), for the softmax.
#include "kernels/attention/sm80_common.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kDim = 512, kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kQueries = 32, kKeys = 32, kKeyWarps = 4;          // of a block, of a tile, that share 16 queries
constexpr int kPitch = kDim + 8, kWeightPitch = kKeys + 8;       // elements
constexpr int kSteps = kDim / 16, kChains = 4;                   // of K in a logit
constexpr int kColumns = kDim / kWarps, kChunks = kColumns / 8;  // of the output, to a warp
constexpr int kTileElements = kKeys * kPitch, kWeightElements = kQueries * kWeightPitch;
constexpr int kSharedBytes = (2 * kTileElements + kWeightElements) * 2;
static_assert(kQueries <= kKeys, "the queries come through the memory of the keys");

// Starts a copy of 32 rows, in a group of its own.
template <typename T>
DARKROOM_DEVICE void copy_tile(Shared<T> to, Global<const T> from, int64_t stride, uint32_t first, uint32_t rows) {
  copy_rows<kThreads, kKeys, kDim, kPitch, true>(to, from, stride, first, rows);
  cp_async_commit();
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1) attention(const __grid_constant__ AttentionParams<T> p) {
  const Shared<float> shared =
      shared_array<float, kKeyWarps * kQueries>();  // of each warp that shares queries: [4][32]
  const Shared<T> of_k = dynamic_shared<T>(), of_v = of_k + kTileElements, of_p = of_v + kTileElements;
  const int lane = lane_index(), warp = warp_index(), key_warp = warp % kKeyWarps, query_half = warp / kKeyWarps;
  const uint32_t first_query = blockIdx.x * kQueries;
  const Head head = this_head(kDim);
  const Global<const T> k = rows_of_head(p.k, p.k_stride, head), v = rows_of_head(p.v, p.v_stride, head);

  copy_tile(of_k, rows_of_head(p.q, p.q_stride, head), p.q_stride[1], first_query, p.queries);
  cp_async_wait<0>();
  sync_block();
  uint32_t of_q[kSteps][4];
  DARKROOM_UNROLL
  for (int s = 0; s < kSteps; ++s)
    ldmatrix<4>(of_q[s], of_k + ((query_half * 16 + lane % 16) * kPitch + s * 16 + lane / 16 * 8));
  sync_block();
  copy_tile(of_k, k, p.k_stride[1], 0, p.keys);

  // A lane holds rows lane/4 + 8 i of the output, i = 0 … 3; of them its logits have i = 2 · query_half and the next.
  float out[2][kChunks][4] = {}, most[4], total[2] = {};
  DARKROOM_UNROLL
  for (float& m : most) m = -INFINITY;

  for (uint32_t first_key = 0; first_key < p.keys; first_key += kKeys) {
    cp_async_wait<0>();
    sync_block();  // the keys are there for all; and all have done with the values before
    copy_tile(of_v, v, p.v_stride[1], first_key, p.keys);

    float chain[kChains][4] = {};
    DARKROOM_UNROLL
    for (int s = 0; s < kSteps; s += 2) {
      uint32_t keys[4];  // eight keys, 32 columns
      ldmatrix<4>(keys, of_k + ((key_warp * 8 + lane % 8) * kPitch + s * 16 + lane / 8 * 8));
      mma_16816<T>(chain[s % kChains], of_q[s], {keys[0], keys[1]});
      mma_16816<T>(chain[s % kChains + 1], of_q[s + 1], {keys[2], keys[3]});
    }
    float logit[4];
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) {
      logit[i] = (chain[0][i] + chain[1][i]) + (chain[2][i] + chain[3][i]);
      if (first_key + uint32_t(key_warp * 8 + lane % 4 * 2 + i % 2) >= p.keys) logit[i] = -INFINITY;
    }
    DARKROOM_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float now = quad_max(fmaxf(logit[half * 2], logit[half * 2 + 1]));
      if (lane % 4 == 0) store(shared + (key_warp * kQueries + query_half * 16 + half * 8 + lane / 4), now);
    }
    sync_block();  // the maxima are there; and all have done with the keys
    if (first_key + kKeys < p.keys)
      copy_tile(of_k, k, p.k_stride[1], first_key + kKeys, p.keys);
    else
      cp_async_commit();

    float scale[4];
    DARKROOM_UNROLL
    for (int i = 0; i < 4; ++i) {
      float now = most[i];
      DARKROOM_UNROLL
      for (int w = 0; w < kKeyWarps; ++w) now = fmaxf(now, load(shared + (w * kQueries + i * 8 + lane / 4)));
      scale[i] = exp2_approx((most[i] - now) * p.scale);
      most[i] = now;
    }
    DARKROOM_UNROLL
    for (int half = 0; half < 2; ++half) {
      const float origin = (query_half == 0 ? most[half] : most[2 + half]) * p.scale;
      const float low = exp2_approx(fmaf(logit[half * 2], p.scale, -origin));
      const float high = exp2_approx(fmaf(logit[half * 2 + 1], p.scale, -origin));
      total[half] = fmaf(total[half], query_half == 0 ? scale[half] : scale[2 + half], low + high);
      store(as<uint32_t>(of_p + ((query_half * 16 + half * 8 + lane / 4) * kWeightPitch + key_warp * 8 + lane % 4 * 2)),
            pack2<T>(low, high));
    }
    DARKROOM_UNROLL
    for (int m = 0; m < 2; ++m) {
      DARKROOM_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        DARKROOM_UNROLL
        for (int i = 0; i < 4; ++i) out[m][c][i] *= scale[m * 2 + i / 2];
      }
    }
    cp_async_wait<1>();
    sync_block();  // weights and values are there

    DARKROOM_UNROLL
    for (int s = 0; s < kKeys / 16; ++s) {
      uint32_t weights[2][4];
      DARKROOM_UNROLL
      for (int m = 0; m < 2; ++m)
        ldmatrix<4>(weights[m], of_p + ((m * 16 + lane % 16) * kWeightPitch + s * 16 + lane / 16 * 8));
      DARKROOM_UNROLL
      for (int c = 0; c < kChunks; c += 2) {
        uint32_t values[4];
        ldmatrix<4, true>(values, of_v + ((s * 16 + lane % 16) * kPitch + warp * kColumns + (c + lane / 16) * 8));
        DARKROOM_UNROLL
        for (int m = 0; m < 2; ++m) {
          mma_16816<T>(out[m][c], weights[m], {values[0], values[1]});
          mma_16816<T>(out[m][c + 1], weights[m], {values[2], values[3]});
        }
      }
    }
  }
  cp_async_wait<0>();

  DARKROOM_UNROLL
  for (int half = 0; half < 2; ++half) {
    const float sum = quad_sum(total[half]);
    if (lane % 4 == 0) store(shared + (key_warp * kQueries + query_half * 16 + half * 8 + lane / 4), sum);
  }
  sync_block();
  // Through the memory of the keys, columns of its own for each warp, to move whole sectors.
  const Shared<T> rows = of_k + warp * kColumns;
  DARKROOM_UNROLL
  for (int i = 0; i < 4; ++i) {
    float sum = 0;
    DARKROOM_UNROLL
    for (int w = 0; w < kKeyWarps; ++w) sum += load(shared + (w * kQueries + i * 8 + lane / 4));
    put_row<T>(rows + (i * 8 + lane / 4) * kPitch, out[i / 2], i % 2, 1.0f / sum);
  }
  sync_warp();
  store_rows<kQueries, kChunks, kPitch, T>(rows_of_head(p.out, p.out_stride, head) + warp * kColumns, p.out_stride[1],
                                           rows, first_query, p.queries);
}

const char* reject(const KernelCall& call) {
  if (head_dim(call) != kDim) return "head dim is not 512";
  if (call.attributes<AttentionAttrs>().causal) return "it has no causal mask";
  return reject_flash(call);
}

template <typename T>
void enqueue_type(const KernelCall& call, const Stream& stream) {
  launch_grid(stream, "attention_flash_512", attention_grid(call, kQueries), kThreads, kSharedBytes, attention<T>,
              flash_params<T>(call));
}

void enqueue(const KernelCall& call, const Stream& stream) {
  if (call.out.dtype == DType::bf16)
    enqueue_type<bf16_t>(call, stream);
  else
    enqueue_type<f16_t>(call, stream);
}

}  // namespace

extern const KernelDef attention_sm80_flash_wide;
const KernelDef attention_sm80_flash_wide = attention_definition("sm80_flash_wide", reject, enqueue);

}  // namespace darkroom::kernels

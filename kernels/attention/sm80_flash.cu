// attention on tensor cores for bf16 and f16, head dims 40, 64, 80 and 160, none of them padded: 40 is two products 16 deep and one
// of 8, five output tiles of 8.
//
//   block      4 warps of 16 or 32 queries each, of one head of one sample; its queries stay in registers as fragments.
//   keys       tiles of 64 with their values, two of them in shared memory: one arrives by cp.async while one is used.
//   logits     S = Q Kᵀ in registers; the running maximum and sum of a row are spread over the four lanes that hold it, and
//              meet by shuffle (the maximum in every tile, the sum once, at the end).
//   weights    2^(S·c − max·c), c = scale · log₂ e, rounded to the storage type: the accumulator's layout is that of the left
//              operand, so P V needs no exchange. Values come through ldmatrix.trans.
//   mask       only in tiles that hold the end of the keys or cross the diagonal.
//   shared     rows an odd number of 16-byte chunks apart: eight rows of a matrix touch all banks once.
//
// Budget: 32 queries a warp for D ≤ 64: 64 (S) + 64 (O) + 32 (Q) registers, 37 KB; 16 for the others: at most 32 + 80 + 40, 86 KB.
// Source: Dao, FlashAttention-2 (2023).
#include "kernels/attention/sm80_common.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 4, kThreads = kWarps * kWarp, kKeys = 64;

template <int kDim>
struct Shape {
  static constexpr int Chunks = kDim / 8;                          // of 16 bytes, in a row
  static constexpr int Pitch = Chunks % 2 == 1 ? kDim : kDim + 8;  // elements
  static constexpr int Fragments = kDim <= 64 ? 2 : 1;             // of 16 queries, of a warp
  static constexpr int Queries = kWarps * Fragments * 16;          // of a block
  static constexpr int TileElements = kKeys * Pitch;               // keys or values
  static constexpr int SharedBytes = 4 * TileElements * 2;
  static_assert(Queries <= 4 * kKeys, "the queries come through the memory of the keys");
};

template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads, 2) attention(const __grid_constant__ AttentionParams<T> p) {
  using S = Shape<kDim>;
  constexpr int kFragments = S::Fragments, kSteps = kDim / 16, kPitch = S::Pitch;
  constexpr bool kHalfStep = kDim % 16 == 8;
  const int lane = lane_index(), warp = warp_index();
  const uint32_t first_query = blockIdx.x * S::Queries;
  const uint32_t warp_query = first_query + uint32_t(warp) * kFragments * 16;
  const Head head = this_head(kDim);
  const Global<const T> k = rows_of_head(p.k, p.k_stride, head), v = rows_of_head(p.v, p.v_stride, head);
  const Shared<T> ring = dynamic_shared<T>();

  copy_rows<kThreads, S::Queries, kDim, kPitch, false>(ring, rows_of_head(p.q, p.q_stride, head), p.q_stride[1],
                                                       first_query, p.queries);
  cp_async_commit();
  cp_async_wait<0>();
  sync_block();
  uint32_t of_q[kFragments][kSteps][4], of_q_half[kFragments][2];
  DARKROOM_UNROLL
  for (int m = 0; m < kFragments; ++m) {
    const Shared<const T> rows = ring + (warp * kFragments + m) * 16 * kPitch;
    DARKROOM_UNROLL
    for (int s = 0; s < kSteps; ++s) ldmatrix<4>(of_q[m][s], rows + (lane % 16 * kPitch + s * 16 + lane / 16 * 8));
    if constexpr (kHalfStep) ldmatrix<2>(of_q_half[m], rows + (lane % 16 * kPitch + kSteps * 16));
  }
  sync_block();  // the ring is free for keys and values

  const uint32_t beyond = first_query + S::Queries < p.queries ? first_query + S::Queries : p.queries;
  const uint32_t seen = p.causal ? beyond : p.keys;  // keys, by any query of the block
  const uint32_t tiles = (seen + kKeys - 1) / kKeys;
  const auto copy_tile = [&](uint32_t tile) {
    const Shared<T> to = ring + int(tile % 2) * 2 * S::TileElements;
    copy_rows<kThreads, kKeys, kDim, kPitch, false>(to, k, p.k_stride[1], tile * kKeys, p.keys);
    copy_rows<kThreads, kKeys, kDim, kPitch, false>(to + S::TileElements, v, p.v_stride[1], tile * kKeys, p.keys);
  };

  float out[kFragments][S::Chunks][4] = {}, most[kFragments][2], total[kFragments][2] = {};
  DARKROOM_UNROLL
  for (int m = 0; m < kFragments; ++m) most[m][0] = most[m][1] = -INFINITY;

  copy_tile(0);
  cp_async_commit();
  for (uint32_t tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) copy_tile(tile + 1);
    cp_async_commit();
    cp_async_wait<1>();
    sync_block();
    const Shared<const T> of_k = ring + int(tile % 2) * 2 * S::TileElements, of_v = of_k + S::TileElements;

    float logit[kFragments][kKeys / 8][4] = {};
    DARKROOM_UNROLL
    for (int n = 0; n < kKeys / 16; ++n) {
      DARKROOM_UNROLL
      for (int s = 0; s < kSteps; ++s) {
        uint32_t keys[4];
        ldmatrix<4>(keys, of_k + ((n * 16 + lane / 16 * 8 + lane % 8) * kPitch + s * 16 + lane / 8 % 2 * 8));
        DARKROOM_UNROLL
        for (int m = 0; m < kFragments; ++m) {
          mma_16816<T>(logit[m][2 * n], of_q[m][s], {keys[0], keys[1]});
          mma_16816<T>(logit[m][2 * n + 1], of_q[m][s], {keys[2], keys[3]});
        }
      }
    }
    if constexpr (kHalfStep) {
      DARKROOM_UNROLL
      for (int n = 0; n < kKeys / 32; ++n) {
        uint32_t keys[4];
        ldmatrix<4>(keys, of_k + ((n * 32 + lane) * kPitch + kSteps * 16));
        DARKROOM_UNROLL
        for (int m = 0; m < kFragments; ++m) {
          DARKROOM_UNROLL
          for (int i = 0; i < 4; ++i) mma_1688<T>(logit[m][4 * n + i], of_q_half[m], keys[i]);
        }
      }
    }

    const uint32_t first_key = tile * kKeys;
    if (first_key + kKeys > p.keys || (p.causal && first_key + kKeys > warp_query)) {
      DARKROOM_UNROLL
      for (int m = 0; m < kFragments; ++m) {
        DARKROOM_UNROLL
        for (int i = 0; i < kKeys / 8 * 4; ++i) {
          const uint32_t key = first_key + uint32_t(i / 4 * 8 + lane % 4 * 2 + i % 2);
          const uint32_t query = warp_query + uint32_t(m * 16 + lane / 4 + i / 2 % 2 * 8);
          if (key >= p.keys || (p.causal && key > query)) logit[m][i / 4][i % 4] = -INFINITY;
        }
      }
    }

    DARKROOM_UNROLL
    for (int m = 0; m < kFragments; ++m) {
      DARKROOM_UNROLL
      for (int half = 0; half < 2; ++half) {  // rows lane/4 and lane/4 + 8
        float now = most[m][half];
        DARKROOM_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) now = fmaxf(now, fmaxf(logit[m][n][half * 2], logit[m][n][half * 2 + 1]));
        now = quad_max(now);
        // Key 0 is seen by every query, so that the maximum is a number from the first tile on.
        const float scale = exp2_approx((most[m][half] - now) * p.scale), origin = now * p.scale;
        most[m][half] = now;
        float sum = 0;
        DARKROOM_UNROLL
        for (int n = 0; n < kKeys / 8; ++n) {
          DARKROOM_UNROLL
          for (int i = half * 2; i < half * 2 + 2; ++i) {
            logit[m][n][i] = exp2_approx(fmaf(logit[m][n][i], p.scale, -origin));
            sum += logit[m][n][i];
          }
        }
        total[m][half] = fmaf(total[m][half], scale, sum);
        DARKROOM_UNROLL
        for (int c = 0; c < S::Chunks; ++c) {
          out[m][c][half * 2] *= scale;
          out[m][c][half * 2 + 1] *= scale;
        }
      }
    }

    DARKROOM_UNROLL
    for (int s = 0; s < kKeys / 16; ++s) {
      uint32_t weights[kFragments][4];
      DARKROOM_UNROLL
      for (int m = 0; m < kFragments; ++m) {
        DARKROOM_UNROLL
        for (int i = 0; i < 4; ++i)
          weights[m][i] = pack2<T>(logit[m][2 * s + i / 2][i % 2 * 2], logit[m][2 * s + i / 2][i % 2 * 2 + 1]);
      }
      const Shared<const T> rows = of_v + (s * 16 + lane % 16) * kPitch;
      DARKROOM_UNROLL
      for (int c = 0; c + 1 < S::Chunks; c += 2) {
        uint32_t values[4];
        ldmatrix<4, true>(values, rows + (c + lane / 16) * 8);
        DARKROOM_UNROLL
        for (int m = 0; m < kFragments; ++m) {
          mma_16816<T>(out[m][c], weights[m], {values[0], values[1]});
          mma_16816<T>(out[m][c + 1], weights[m], {values[2], values[3]});
        }
      }
      if constexpr (S::Chunks % 2 == 1) {
        uint32_t values[2];
        ldmatrix<2, true>(values, rows + (S::Chunks - 1) * 8);
        DARKROOM_UNROLL
        for (int m = 0; m < kFragments; ++m) mma_16816<T>(out[m][S::Chunks - 1], weights[m], values);
      }
    }
    sync_block();  // all have done with this tile, whose place is filled next
  }
  cp_async_wait<0>();

  // Through shared memory, rows of its own for each warp, to move whole rows.
  const Shared<T> rows = ring + warp * kFragments * 16 * kPitch;
  DARKROOM_UNROLL
  for (int m = 0; m < kFragments; ++m) {
    DARKROOM_UNROLL
    for (int half = 0; half < 2; ++half)
      put_row<T>(rows + (m * 16 + half * 8 + lane / 4) * kPitch, out[m], half, 1.0f / quad_sum(total[m][half]));
  }
  sync_warp();
  store_rows<kFragments * 16, S::Chunks, kPitch, T>(rows_of_head(p.out, p.out_stride, head), p.out_stride[1], rows,
                                                    warp_query, p.queries);
}

const char* reject(const KernelCall& call) {
  const int64_t dim = head_dim(call);
  if (dim != 40 && dim != 64 && dim != 80 && dim != 160) return "head dim is not 40, 64, 80 or 160";
  return reject_flash(call);
}

template <typename T, int kDim>
void launch_dim(const Stream& stream, const char* name, const KernelCall& call) {
  launch_grid(stream, name, attention_grid(call, Shape<kDim>::Queries), kThreads, Shape<kDim>::SharedBytes,
              attention<T, kDim>, flash_params<T>(call));
}

template <typename T>
void enqueue_type(const KernelCall& call, const Stream& stream) {
  const int64_t dim = head_dim(call);
  if (dim == 40) launch_dim<T, 40>(stream, "attention_flash_40", call);
  if (dim == 64) launch_dim<T, 64>(stream, "attention_flash_64", call);
  if (dim == 80) launch_dim<T, 80>(stream, "attention_flash_80", call);
  if (dim == 160) launch_dim<T, 160>(stream, "attention_flash_160", call);
}

void enqueue(const KernelCall& call, const Stream& stream) {
  if (call.out.dtype == DType::bf16)
    enqueue_type<bf16_t>(call, stream);
  else
    enqueue_type<f16_t>(call, stream);
}

}  // namespace

extern const KernelDef attention_sm80_flash;
const KernelDef attention_sm80_flash = attention_definition("sm80_flash", reject, enqueue);

}  // namespace darkroom::kernels

// attention in f32 arithmetic, for every type and head dims up to 512: f32 mode, and what tensor cores refuse.
//
//   block      4 warps, two queries each, of one head of one sample; keys in tiles of 32, one a lane.
//   logits     q is in shared memory; a tile's keys come there 32 columns at a time, rows 33 apart so that lanes read 32 banks.
//   softmax    running maximum and sum for each query, across the lanes of its warp.
//   values     each lane owns every 32nd column of the output; the weights of the 32 keys go round by shuffle.
//
// Budget: 2 · D/32 sums a thread; shared memory 32 · D + 4.2 K bytes. Every key and value is read once for eight queries, from L2.
#include "kernels/attention/sm80_common.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kWarps = 4, kThreads = kWarps * kWarp, kOfWarp = 2, kQueries = kWarps * kOfWarp;
constexpr int kKeyPitch = 33;

// kColumns: of the output, to a lane. The blocks of an SM are asked for so that ptxas does not spill for more.
template <typename T, int kColumns>
__global__ void __launch_bounds__(kThreads, kColumns <= 4 ? 8 : 4)
    attention(const __grid_constant__ AttentionParams<T> p) {
  constexpr int kPadded = kColumns * kWarp;
  const Shared<float> of_q = shared_array<float, kQueries * kPadded, 0>(),
                      of_k = shared_array<float, kWarp * kKeyPitch, 1>();
  const int lane = lane_index(), warp = warp_index(), thread = int(threadIdx.x);
  const uint32_t first_query = blockIdx.x * kQueries;
  const Head head = this_head(p.dim);
  const Global<const T> q = rows_of_head(p.q, p.q_stride, head), k = rows_of_head(p.k, p.k_stride, head),
                        v = rows_of_head(p.v, p.v_stride, head);

  for (int i = thread; i < kQueries * kPadded; i += kThreads) {
    const uint32_t query = first_query + uint32_t(i / kPadded);
    const int d = i % kPadded;
    const bool inside = query < p.queries && d < p.dim;
    store(of_q + i, inside ? widen(load(q + (query * p.q_stride[1] + d))) * p.scale : 0.0f);
  }

  float most[kOfWarp], total[kOfWarp] = {}, sum[kOfWarp][kColumns] = {};
  DARKROOM_UNROLL
  for (float& m : most) m = -INFINITY;
  const uint32_t last_query = first_query + kQueries < p.queries ? first_query + kQueries : p.queries;
  const uint32_t seen = p.causal ? last_query : p.keys;  // by any query of the block
  for (uint32_t first = 0; first < seen; first += kWarp) {
    float logit[kOfWarp] = {};
    for (int d0 = 0; d0 < p.dim; d0 += kWarp) {
      sync_block();
      for (int i = thread; i < kWarp * kWarp; i += kThreads) {
        const uint32_t key = first + uint32_t(i / kWarp);
        const int d = d0 + i % kWarp;
        const bool inside = key < p.keys && d < p.dim;
        store(of_k + (i / kWarp * kKeyPitch + i % kWarp), inside ? widen(load(k + (key * p.k_stride[1] + d))) : 0.0f);
      }
      sync_block();
      DARKROOM_UNROLL
      for (int d = 0; d < kWarp; ++d) {
        const float x = load(of_k + (lane * kKeyPitch + d));
        DARKROOM_UNROLL
        for (int r = 0; r < kOfWarp; ++r)
          logit[r] = fmaf(x, load(of_q + ((warp * kOfWarp + r) * kPadded + d0 + d)), logit[r]);
      }
    }
    float weight[kOfWarp];
    DARKROOM_UNROLL
    for (int r = 0; r < kOfWarp; ++r) {
      const uint32_t key = first + uint32_t(lane), query = first_query + uint32_t(warp * kOfWarp + r);
      if (key >= p.keys || (p.causal && key > query)) logit[r] = -INFINITY;
      const float now = fmaxf(most[r], warp_max(logit[r]));
      // A query of a causal block may have seen nothing in this tile; key 0 of the first tile is seen by all.
      weight[r] = expf(logit[r] - now);
      const float scale = expf(most[r] - now);
      most[r] = now;
      total[r] = total[r] * scale + warp_sum(weight[r]);
      DARKROOM_UNROLL
      for (float& s : sum[r]) s *= scale;
    }
    for (int j = 0; j < kWarp && first + uint32_t(j) < seen; ++j) {
      float of_key[kOfWarp];
      DARKROOM_UNROLL
      for (int r = 0; r < kOfWarp; ++r) of_key[r] = shuffle(weight[r], j);
      const Global<const T> value = v + ((first + uint32_t(j)) * p.v_stride[1] + lane);
      DARKROOM_UNROLL
      for (int c = 0; c < kColumns; ++c) {
        const float x = c * kWarp + lane < p.dim ? widen(load(value + c * kWarp)) : 0.0f;
        DARKROOM_UNROLL
        for (int r = 0; r < kOfWarp; ++r) sum[r][c] = fmaf(of_key[r], x, sum[r][c]);
      }
    }
  }
  DARKROOM_UNROLL
  for (int r = 0; r < kOfWarp; ++r) {
    const uint32_t query = first_query + uint32_t(warp * kOfWarp + r);
    if (query >= p.queries) break;
    const float scale = 1.0f / total[r];
    const Global<T> out = p.out + (head.sample * p.out_stride[0] + query * p.out_stride[1] + head.column + lane);
    DARKROOM_UNROLL
    for (int c = 0; c < kColumns; ++c)
      if (c * kWarp + lane < p.dim) store(out + c * kWarp, narrow<T>(sum[r][c] * scale));
  }
}

const char* reject(const KernelCall& call) {
  if (!is_type_pair(call.out.dtype, call.out.dtype)) return "q, k, v and out must be f32, bf16 or f16";
  if (head_dim(call) > 512) return "head dim above 512";
  return reject_attention(call);
}

void enqueue(const KernelCall& call, const Stream& stream) {
  const Grid grid = attention_grid(call, kQueries);
  by_type(call.out.dtype, [&](auto type) {
    using T = decltype(type);
    const AttentionParams<T> p = attention_params<T>(call);
    if (p.dim <= 64)
      launch_grid(stream, "attention_fma_64", grid, kThreads, 0, attention<T, 2>, p);
    else if (p.dim <= 160)
      launch_grid(stream, "attention_fma_160", grid, kThreads, 0, attention<T, 5>, p);
    else
      launch_grid(stream, "attention_fma_512", grid, kThreads, 0, attention<T, 16>, p);
  });
}

}  // namespace

extern const KernelDef attention_sm80_fma;
const KernelDef attention_sm80_fma = attention_definition("sm80_fma", reject, enqueue);

}  // namespace darkroom::kernels

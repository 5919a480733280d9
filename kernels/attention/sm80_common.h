// What the attention kernels for GPUs have in common: parameters, refusals, and the ends of a block: rows of q, k and v on their way to
// shared memory, rows of the output on their way from fragments to global memory.
//
// Grids are (blocks of queries, heads, samples). Tensor-core kernels hold scores and outputs as fragments of mma.sync: lane l has
// columns 2(l%4), 2(l%4)+1 of rows l/4 and l/4 + 8 of each 16 × 8, so that four neighbouring lanes share a row.
#pragma once

#include "kernels/core/cuda/rows.h"
#include "kernels/core/gemm_call.h"

namespace darkroom::cuda {

template <typename T>
struct AttentionParams {
  Global<const T> q, k, v;
  Global<T> out;
  int64_t q_stride[2], k_stride[2], v_stride[2], out_stride[2];  // sample, row
  uint32_t queries, keys;
  int32_t dim;  // of a head
  float scale;
  bool causal;
};

// --- device -----------------------------------------------------------------------------------------------------------

// This block's head of its sample; found once, for ptxas holds what is found twice twice.
struct Head {
  int64_t sample, column;
};
DARKROOM_DEVICE Head this_head(int dim) { return {blockIdx.z, int64_t(blockIdx.y) * dim}; }
// Where its row 0 begins.
template <typename T>
DARKROOM_DEVICE Global<T> rows_of_head(Global<T> p, const int64_t (&stride)[2], const Head& head) {
  return p + (head.sample * stride[0] + head.column);
}

// Of a row that four lanes share.
DARKROOM_DEVICE float quad_max(float x) {
  x = fmaxf(x, shuffle_xor(x, 1));
  return fmaxf(x, shuffle_xor(x, 2));
}
DARKROOM_DEVICE float quad_sum(float x) {
  x += shuffle_xor(x, 1);
  return x + shuffle_xor(x, 2);
}

// Starts copies of kRows rows of kDim elements from row `first` on, those beyond `rows` as zeros, to rows kPitch elements apart.
// kLoop: not unrolled, for kernels that have no registers for the addresses of all copies at once.
template <int kThreads, int kRows, int kDim, int kPitch, bool kLoop, typename T>
DARKROOM_DEVICE void copy_rows(Shared<T> to, Global<const T> from, int64_t stride, uint32_t first, uint32_t rows) {
  constexpr int kChunks = kDim / 8, kCopies = kRows * kChunks, kTurns = (kCopies + kThreads - 1) / kThreads;
  const auto copy = [&](int item) {
    if (kCopies % kThreads != 0 && item >= kCopies) return;
    const int r = item / kChunks, c = item % kChunks * 8;
    const uint32_t row = first + uint32_t(r);
    cp_async<16>(to + (r * kPitch + c), from + (row < rows ? row * stride + c : 0), row < rows);
  };
  if constexpr (kLoop) {
    DARKROOM_NO_UNROLL
    for (int i = 0; i < kTurns; ++i) copy(i * kThreads + int(threadIdx.x));
  } else {
    DARKROOM_UNROLL
    for (int i = 0; i < kTurns; ++i) copy(i * kThreads + int(threadIdx.x));
  }
}

// Puts what a lane has of one row, columns 2(l%4) and the next of each eight, into that row in shared memory: `half` of each
// fragment (0: row l/4, 1: row l/4 + 8), times `scale`.
template <typename T, int kChunks>
DARKROOM_DEVICE void put_row(Shared<T> row, const float (&out)[kChunks][4], int half, float scale) {
  DARKROOM_UNROLL
  for (int c = 0; c < kChunks; ++c)
    store(as<uint32_t>(row + (c * 8 + lane_index() % 4 * 2)),
          pack2<T>(out[c][half * 2] * scale, out[c][half * 2 + 1] * scale));
}
// A warp moves kRows rows of kChunks times eight elements (its own: written before a sync_warp) to rows first_query … of the
// output, 16 bytes a lane.
template <int kRows, int kChunks, int kPitch, typename T>
DARKROOM_DEVICE void store_rows(Global<T> to, int64_t stride, Shared<const T> rows, uint32_t first_query,
                                uint32_t queries) {
  for (int item = lane_index(); item < kRows * kChunks; item += kWarp) {
    const int r = item / kChunks, c = item % kChunks * 8;
    const uint32_t query = first_query + uint32_t(r);
    if (query < queries)
      store(as<Vec<uint32_t, 4>>(to + (query * stride + c)), load(as<Vec<uint32_t, 4>>(rows + (r * kPitch + c))));
  }
}

// --- host -------------------------------------------------------------------------------------------------------------

inline int64_t head_dim(const KernelCall& call) {
  return call.out.channels() / call.attributes<AttentionAttrs>().heads;
}

inline const char* reject_attention(const KernelCall& call) {
  using S = AttentionAttrs;
  for (int i : {S::kQ, S::kK, S::kV})
    if (call.in[i].dtype != call.out.dtype) return "q, k, v and out must be of one dtype";
  if (call.attributes<S>().heads > 65535 || call.out.shape[0] > 65535) return "more than 65535 heads or samples";
  if (call.out.shape[1] > INT32_MAX || call.in[S::kK].shape[1] > INT32_MAX) return "too long for 32-bit row numbers";
  return nullptr;
}
inline const char* reject_flash(const KernelCall& call) {
  using S = AttentionAttrs;
  if (call.out.dtype != DType::bf16 && call.out.dtype != DType::f16) return "q, k, v and out must be bf16 or f16";
  for (const TensorView* v : {&call.in[S::kQ], &call.in[S::kK], &call.in[S::kV], &call.out})
    if (!rows_of(8, *v)) return "rows must be multiples of 8 channels, aligned to 16 bytes";
  return reject_attention(call);
}

template <typename T>
AttentionParams<T> attention_params(const KernelCall& call) {
  using S = AttentionAttrs;
  const TensorView &q = call.in[S::kQ], &k = call.in[S::kK], &v = call.in[S::kV], &out = call.out;
  AttentionParams<T> p{};
  p.q = global<const T>(q, "q");
  p.k = global<const T>(k, "k");
  p.v = global<const T>(v, "v");
  p.out = global<T>(out, "out");
  for (size_t i = 0; i < 2; ++i) {
    p.q_stride[i] = q.stride[i];
    p.k_stride[i] = k.stride[i];
    p.v_stride[i] = v.stride[i];
    p.out_stride[i] = out.stride[i];
  }
  p.queries = uint32_t(q.shape[1]);
  p.keys = uint32_t(k.shape[1]);
  p.dim = int32_t(head_dim(call));
  p.scale = call.attributes<S>().scale;
  p.causal = call.attributes<S>().causal;
  return p;
}
// With the scale that makes 2^x of e^x.
template <typename T>
AttentionParams<T> flash_params(const KernelCall& call) {
  AttentionParams<T> p = attention_params<T>(call);
  p.scale *= 1.44269504f;
  return p;
}

inline Grid attention_grid(const KernelCall& call, int64_t queries_of_block) {
  const TensorView& q = call.in[AttentionAttrs::kQ];
  return {blocks_for(q.shape[1], queries_of_block), uint32_t(call.attributes<AttentionAttrs>().heads),
          uint32_t(q.shape[0])};
}

constexpr KernelDef attention_definition(const char* variant, const char* (*reject)(const KernelCall&),
                                         void (*enqueue)(const KernelCall&, const Stream&)) {
  return {.op = OpKind::attention,
          .variant = variant,
          .isa = Isa::sm80,
          .reject = reject,
          .scratch_bytes = nullptr,
          .pack_format = {},
          .packed_bytes = nullptr,
          .pack = nullptr,
          .enqueue = enqueue};
}

}  // namespace darkroom::cuda

// embedding and select_rows for GPUs: one thread for eight channels of an output row, or four (kRun). Floor: the bytes.
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 128;

template <typename Table, typename Out>
struct EmbeddingParams {
  Global<const int32_t> ids;
  Global<const Table> table, positions;
  Global<Out> out;
  RowMap out_rows;
  int64_t ids_stride[2], table_stride, positions_stride;
  uint32_t rows, runs, tokens;  // runs: of a row
  int64_t channels;
  int32_t entries;
  bool vectors;
};

template <typename Table, typename Out>
__global__ void __launch_bounds__(kThreads) embedding(const __grid_constant__ EmbeddingParams<Table, Out> p) {
  constexpr int kN = kRun<Table, Out>;
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t row = item / p.runs;
  if (row >= p.rows) return;
  const int64_t first = int64_t(item % p.runs) * kN, n = p.channels - first;
  const uint32_t sample = row / p.tokens, token = row % p.tokens;
  int32_t id = load(p.ids + (sample * p.ids_stride[0] + token * p.ids_stride[1]));
  id = id < 0 ? 0 : id < p.entries ? id : p.entries - 1;
  float x[kN];
  load_run<Table>(x, p.table + (id * p.table_stride + first), p.vectors, n);
  if (p.positions != nullptr) {
    float position[kN];
    load_run<Table>(position, p.positions + (token * p.positions_stride + first), p.vectors, n);
    DARKROOM_UNROLL
    for (int i = 0; i < kN; ++i) x[i] += position[i];
  }
  store_run<Out>(p.out + (row_offset(p.out_rows, row) + first), x, p.vectors, n);
}

template <typename In, typename Out>
struct SelectParams {
  Global<const In> x;
  Global<const int32_t> index;
  Global<Out> out;
  int64_t x_stride[2], index_stride, out_stride;
  uint32_t samples, runs;  // runs: of a row
  int64_t channels;
  int32_t tokens;
  bool vectors;
};

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) select_rows(const __grid_constant__ SelectParams<In, Out> p) {
  constexpr int kN = kRun<In, Out>;
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t sample = item / p.runs;
  if (sample >= p.samples) return;
  const int64_t first = int64_t(item % p.runs) * kN, n = p.channels - first;
  int32_t token = load(p.index + sample * p.index_stride);
  token = token < 0 ? 0 : token < p.tokens ? token : p.tokens - 1;
  float x[kN];
  load_run<In>(x, p.x + (sample * p.x_stride[0] + token * p.x_stride[1] + first), p.vectors, n);
  store_run<Out>(p.out + (sample * p.out_stride + first), x, p.vectors, n);
}

const char* reject_embedding(const KernelCall& call) {
  using S = EmbeddingAttrs;
  if (call.in[S::kIds].dtype != DType::i32) return "ids must be i32";
  const DType table = call.in[S::kTable].dtype;
  if (call.in[S::kPositions].present() && call.in[S::kPositions].dtype != table)
    return "table and positions must be of one dtype";
  const auto known = [](DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f16; };
  if (!known(table) || !known(call.out.dtype)) return "table and out must be f32, bf16 or f16";
  if (call.in[S::kTable].shape[0] > INT32_MAX || !fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  return nullptr;
}
const char* reject_select_rows(const KernelCall& call) {
  using S = SelectRowsAttrs;
  if (call.in[S::kIndex].dtype != DType::i32) return "index must be i32";
  if (!is_type_pair(call.in[S::kX].dtype, call.out.dtype))
    return "x and out must be f32, bf16 or f16, not bf16 and f16";
  if (call.in[S::kX].shape[1] > INT32_MAX || !fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  return nullptr;
}

void enqueue_embedding(const KernelCall& call, const Stream& stream) {
  using S = EmbeddingAttrs;
  const TensorView &ids = call.in[S::kIds], &table = call.in[S::kTable], &positions = call.in[S::kPositions];
  by_type(table.dtype, [&](auto in) {
    by_type(call.out.dtype, [&](auto out) {
      using Table = decltype(in);
      using Out = decltype(out);
      EmbeddingParams<Table, Out> p{};
      p.ids = global<const int32_t>(ids, "ids");
      p.table = global<const Table>(table, "table");
      p.positions = global<const Table>(positions, "positions");
      p.out = global<Out>(call.out, "out");
      p.out_rows = row_map(call.out);
      p.ids_stride[0] = ids.stride[0];
      p.ids_stride[1] = ids.stride[1];
      p.table_stride = table.stride[0];
      p.positions_stride = positions.stride[0];
      p.rows = uint32_t(call.out.rows());
      p.tokens = uint32_t(ids.shape[1]);
      p.channels = table.channels();
      constexpr int kN = kRun<Table, Out>;
      p.runs = blocks_for(p.channels, kN);
      p.entries = int32_t(table.shape[0]);
      p.vectors = rows_of_runs(table, kN) && rows_of_runs(positions, kN) && rows_of_runs(call.out, kN);
      launch_grid(stream, "embedding", {blocks_for(int64_t(p.rows) * p.runs, kThreads)}, kThreads, 0,
                  embedding<Table, Out>, p);
    });
  });
}

void enqueue_select_rows(const KernelCall& call, const Stream& stream) {
  using S = SelectRowsAttrs;
  const TensorView &x = call.in[S::kX], &index = call.in[S::kIndex];
  by_types(x.dtype, call.out.dtype, [&](auto in, auto out) {
    using In = decltype(in);
    using Out = decltype(out);
    SelectParams<In, Out> p{};
    p.x = global<const In>(x, "x");
    p.index = global<const int32_t>(index, "index");
    p.out = global<Out>(call.out, "out");
    p.x_stride[0] = x.stride[0];
    p.x_stride[1] = x.stride[1];
    p.index_stride = index.stride[0];
    p.out_stride = call.out.stride[0];
    p.samples = uint32_t(x.shape[0]);
    p.tokens = int32_t(x.shape[1]);
    p.channels = x.channels();
    constexpr int kN = kRun<In, Out>;
    p.runs = blocks_for(p.channels, kN);
    p.vectors = rows_of_runs(x, kN) && rows_of_runs(call.out, kN);
    launch_grid(stream, "select_rows", {blocks_for(int64_t(p.samples) * p.runs, kThreads)}, kThreads, 0,
                select_rows<In, Out>, p);
  });
}

}  // namespace

extern const KernelDef embedding_sm80, select_rows_sm80;
const KernelDef embedding_sm80 = {
    .op = OpKind::embedding,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject_embedding,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_embedding,
};
const KernelDef select_rows_sm80 = {
    .op = OpKind::select_rows,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject_select_rows,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_select_rows,
};

}  // namespace darkroom::kernels

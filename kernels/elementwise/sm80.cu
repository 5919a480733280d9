// unary, add, geglu and concat for GPUs: one thread for eight neighbouring channels of a row, for four where one side is f32, 16
// bytes an access where the rows allow it. Floor: the bytes. Registers below 40, no shared memory.
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

// A run of n channels of a row, from `first` on.
struct Place {
  uint32_t row;
  int64_t first;
};
DARKROOM_DEVICE Place place_of(uint32_t runs_a_row, int n) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  return {item / runs_a_row, int64_t(item % runs_a_row) * n};
}

template <typename In, typename Out>
struct Params {
  Global<const In> x;
  Global<const float> other_f32;  // add: b, in one of two types
  Global<const In> other;
  Global<Out> out;
  RowMap x_rows, other_rows, out_rows;
  uint32_t rows, runs;  // of the output; of a row
  int64_t channels;
  uint32_t rows_of_sample;  // add: rows that share a row of b
  bool vectors;
  Activation activation;
  float scale;
};

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) unary(const __grid_constant__ Params<In, Out> p) {
  constexpr int kN = kRun<In, Out>;
  const Place at = place_of(p.runs, kN);
  if (at.row >= p.rows) return;
  float x[kN];
  load_run<In>(x, p.x + (row_offset(p.x_rows, at.row) + at.first), p.vectors, p.channels - at.first);
  DARKROOM_UNROLL
  for (float& v : x) v = activate(p.activation, v) * p.scale;
  store_run<Out>(p.out + (row_offset(p.out_rows, at.row) + at.first), x, p.vectors, p.channels - at.first);
}

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) add(const __grid_constant__ Params<In, Out> p) {
  constexpr int kN = kRun<In, Out>;
  const Place at = place_of(p.runs, kN);
  if (at.row >= p.rows) return;
  float a[kN], b[kN];
  const int64_t n = p.channels - at.first;
  load_run<In>(a, p.x + (row_offset(p.x_rows, at.row) + at.first), p.vectors, n);
  const int64_t other = row_offset(p.other_rows, at.row / p.rows_of_sample) + at.first;
  if (p.other_f32 != nullptr)
    load_run<float>(b, p.other_f32 + other, p.vectors, n);
  else
    load_run<In>(b, p.other + other, p.vectors, n);
  DARKROOM_UNROLL
  for (int i = 0; i < kN; ++i) a[i] += b[i];
  store_run<Out>(p.out + (row_offset(p.out_rows, at.row) + at.first), a, p.vectors, n);
}

template <typename In, typename Out>
__global__ void __launch_bounds__(kThreads) geglu(const __grid_constant__ Params<In, Out> p) {
  constexpr int kN = kRun<In, Out>;
  const Place at = place_of(p.runs, kN);
  if (at.row >= p.rows) return;
  float x[kN], gate[kN];
  const int64_t n = p.channels - at.first;
  const Global<const In> from = p.x + (row_offset(p.x_rows, at.row) + at.first);
  load_run<In>(x, from, p.vectors, n);
  load_run<In>(gate, from + p.channels, p.vectors, n);
  DARKROOM_UNROLL
  for (int i = 0; i < kN; ++i) x[i] *= gelu(gate[i]);
  store_run<Out>(p.out + (row_offset(p.out_rows, at.row) + at.first), x, p.vectors, n);
}

const char* reject(const KernelCall& call) {
  if (!is_type_pair(call.in[0].dtype, call.out.dtype)) return "x and out must be f32, bf16 or f16, not bf16 and f16";
  if (!fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  return nullptr;
}
const char* reject_add(const KernelCall& call) {
  const DType b = call.in[AddAttrs::kB].dtype;
  if (b != call.in[AddAttrs::kA].dtype && b != DType::f32) return "b must be of a's dtype, or f32";
  return reject(call);
}
const char* reject_concat(const KernelCall& call) {
  for (const TensorView& x : call.in)
    if (x.present() && x.dtype != call.out.dtype) return "inputs and out must be of one dtype";
  return reject(call);
}

// What all four have in common: an output of x's rows.
template <typename In, typename Out>
Params<In, Out> params_of(const TensorView& x, const TensorView& out) {
  Params<In, Out> p{};
  p.x = global<const In>(x, "x");
  p.out = global<Out>(out, "out");
  p.x_rows = row_map(x);
  p.out_rows = row_map(out);
  p.rows = uint32_t(out.rows());
  p.channels = out.channels();
  p.runs = blocks_for(p.channels, kRun<In, Out>);
  p.rows_of_sample = 1;
  p.vectors = rows_of_runs(x, kRun<In, Out>) && rows_of_runs(out, kRun<In, Out>);
  p.activation = Activation::none;
  p.scale = 1.0f;
  return p;
}
template <typename In, typename Out>
void launch(const Stream& stream, const char* name, void (*kernel)(Params<In, Out>), const Params<In, Out>& p) {
  launch_grid(stream, name, {blocks_for(int64_t(p.rows) * p.runs, kThreads)}, kThreads, 0, kernel, p);
}

void enqueue_unary(const KernelCall& call, const Stream& stream) {
  const auto& attrs = call.attributes<UnaryAttrs>();
  by_types(call.in[0].dtype, call.out.dtype, [&](auto in, auto out) {
    auto p = params_of<decltype(in), decltype(out)>(call.in[0], call.out);
    p.activation = attrs.activation;
    p.scale = attrs.scale;
    launch(stream, "unary", unary<decltype(in), decltype(out)>, p);
  });
}

void enqueue_add(const KernelCall& call, const Stream& stream) {
  const TensorView &a = call.in[AddAttrs::kA], &b = call.in[AddAttrs::kB];
  by_types(a.dtype, call.out.dtype, [&](auto in, auto out) {
    auto p = params_of<decltype(in), decltype(out)>(a, call.out);
    if (b.dtype == a.dtype)
      p.other = global<const decltype(in)>(b, "b");
    else
      p.other_f32 = global<const float>(b, "b");
    p.other_rows = row_map(b);
    p.rows_of_sample = b.shape == a.shape ? 1 : uint32_t(a.rows() / a.shape[0]);
    p.vectors = p.vectors && rows_of_runs(b, kRun<decltype(in), decltype(out)>);
    launch(stream, "add", add<decltype(in), decltype(out)>, p);
  });
}

void enqueue_geglu(const KernelCall& call, const Stream& stream) {
  by_types(call.in[0].dtype, call.out.dtype, [&](auto in, auto out) {
    launch(stream, "geglu", geglu<decltype(in), decltype(out)>,
           params_of<decltype(in), decltype(out)>(call.in[0], call.out));
  });
}

// A copy for each input, into its columns.
void enqueue_concat(const KernelCall& call, const Stream& stream) {
  by_type(call.out.dtype, [&](auto type) {
    using T = decltype(type);
    TensorView columns = call.out;
    for (const TensorView& x : call.in) {
      if (!x.present()) break;
      columns.shape[-1] = x.channels();
      launch(stream, "concat", unary<T, T>, params_of<T, T>(x, columns));
      columns.data = columns.as<T>() + x.channels();
    }
  });
}

}  // namespace

extern const KernelDef unary_sm80, add_sm80, geglu_sm80, concat_sm80;
const KernelDef unary_sm80 = {
    .op = OpKind::unary,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_unary,
};
const KernelDef add_sm80 = {
    .op = OpKind::add,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject_add,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_add,
};
const KernelDef geglu_sm80 = {
    .op = OpKind::geglu,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_geglu,
};
const KernelDef concat_sm80 = {
    .op = OpKind::concat,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject_concat,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue_concat,
};

}  // namespace darkroom::kernels

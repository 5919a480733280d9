// upsample for GPUs: one thread copies 16 bytes of an output pixel. Floor: the bytes; source pixels are read again from
// L2. Runs only where no convolution takes the enlargement upon itself.
#include "kernels/core/cuda/rows.h"

namespace darkroom::kernels {
namespace {

using namespace cuda;

constexpr int kThreads = 256;

template <typename T>
struct Params {
  Global<const T> x;
  Global<T> out;
  RowMap x_rows, out_rows;
  uint32_t rows, runs;  // of the output; of a row
  int64_t channels;
  uint32_t height, width, out_height, out_width;
  bool vectors;
};

template <typename T>
__global__ void __launch_bounds__(kThreads) upsample(const __grid_constant__ Params<T> p) {
  constexpr int kN = kRun<T, T>;
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t row = item / p.runs;
  if (row >= p.rows) return;
  const int64_t first = int64_t(item % p.runs) * kN, n = p.channels - first;
  const uint32_t x = row % p.out_width, y = row / p.out_width % p.out_height, b = row / p.out_width / p.out_height;
  const uint32_t from = (b * p.height + y * p.height / p.out_height) * p.width + x * p.width / p.out_width;
  float v[kN];
  load_run<T>(v, p.x + (row_offset(p.x_rows, from) + first), p.vectors, n);
  store_run<T>(p.out + (row_offset(p.out_rows, row) + first), v, p.vectors, n);
}

const char* reject(const KernelCall& call) {
  const DType x = call.in[UpsampleAttrs::kX].dtype;
  if (x != call.out.dtype || !is_type_pair(x, x)) return "x and out must be of one dtype, f32, bf16 or f16";
  if (!fits_32_bits(call.out)) return "too large for 32-bit row numbers";
  constexpr int64_t kMaxSide = 65535;  // the product of two sides stays within 32 bits
  if (call.out.shape[1] > kMaxSide || call.out.shape[2] > kMaxSide) return "wider or higher than 65535";
  return nullptr;
}

void enqueue(const KernelCall& call, const Stream& stream) {
  const TensorView& x = call.in[UpsampleAttrs::kX];
  by_type(x.dtype, [&](auto type) {
    using T = decltype(type);
    Params<T> p{};
    p.x = global<const T>(x, "x");
    p.out = global<T>(call.out, "out");
    p.x_rows = row_map(x);
    p.out_rows = row_map(call.out);
    p.rows = uint32_t(call.out.rows());
    p.channels = x.channels();
    p.runs = blocks_for(p.channels, kRun<T, T>);
    p.height = uint32_t(x.shape[1]);
    p.width = uint32_t(x.shape[2]);
    p.out_height = uint32_t(call.out.shape[1]);
    p.out_width = uint32_t(call.out.shape[2]);
    p.vectors = rows_of_runs(x, kRun<T, T>) && rows_of_runs(call.out, kRun<T, T>);
    launch_grid(stream, "upsample", {blocks_for(int64_t(p.rows) * p.runs, kThreads)}, kThreads, 0, upsample<T>, p);
  });
}

}  // namespace

extern const KernelDef upsample_sm80;
const KernelDef upsample_sm80 = {
    .op = OpKind::upsample,
    .variant = "sm80",
    .isa = Isa::sm80,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .enqueue = enqueue,
};

}  // namespace darkroom::kernels

#include "bench/kernels/operands.h"

#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/error.h"

namespace darkroom::bench {

namespace {

// Whatever is timed shall be the op; how exact it is, tests/kernels says.
constexpr double kLimitF32 = 1e-4, kLimit16 = 3e-2;
constexpr int64_t kRowsCompared = 8;

void fill(const TensorView& v) {
  const int64_t n = v.extent();
  uint32_t state = 12345;
  for (int64_t i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    const float x = float(int32_t(state)) * 0x1p-31f;
    if (v.dtype == DType::f32) v.as<float>()[i] = x;
    if (v.dtype == DType::f16) v.as<f16_t>()[i] = to_f16(x);
    if (v.dtype == DType::bf16) v.as<bf16_t>()[i] = to_bf16(x);
    if (v.dtype == DType::i32) v.as<int32_t>()[i] = int32_t(state >> 24) % 77;
  }
}

void poison(const TensorView& v) {
  const int64_t n = v.extent();
  for (int64_t i = 0; i < n; ++i) {
    if (v.dtype == DType::f32) v.as<float>()[i] = std::numeric_limits<float>::quiet_NaN();
    if (v.dtype == DType::bf16) v.as<bf16_t>()[i] = to_bf16(std::numeric_limits<float>::quiet_NaN());
    if (v.dtype == DType::f16) v.as<f16_t>()[i] = to_f16(std::numeric_limits<float>::quiet_NaN());
  }
}

// Indices [begin, begin + count) of one dimension.
TensorView cut(TensorView v, int dimension, int64_t begin, int64_t count) {
  if (!v.present()) return v;
  v.data = static_cast<char*>(v.data) + begin * v.stride[size_t(dimension)] * int64_t(dtype_size(v.dtype));
  v.shape[dimension] = count;
  return v;
}

// The first or the last pixels of a side of the output, and of the input what they read, with the padding that is left.
struct Window {
  int64_t out_begin, out_count, in_begin, in_count;
  int pad_before, pad_after;
};
Window window(int64_t in, int64_t out, int kernel, int stride, int pad, bool last) {
  const int64_t count = std::min(kRowsCompared, out), begin = last ? out - count : 0;
  const int64_t first = begin * stride - pad, end = (begin + count - 1) * stride - pad + kernel;
  const int64_t in_first = std::max<int64_t>(first, 0), in_end = std::min(end, in);
  return {begin, count, in_first, in_end - in_first, int(in_first - first), int(end - in_end)};
}

struct Part {
  OpAttrs attrs;
  KernelCall call;  // out: where the implementation under test wrote it
};

// Of a convolution, with or without a norm.
Conv2dAttrs& conv2d_attrs(OpAttrs& attrs) {
  auto* normed = std::get_if<NormConv2dAttrs>(&attrs);
  return normed ? *normed : std::get<Conv2dAttrs>(attrs);
}

Part conv2d_corner(const KernelCall& call, bool last) {
  Part part{*call.attrs, call};
  Conv2dAttrs& attrs = conv2d_attrs(part.attrs);
  const Shape &in = call.in[Conv2dAttrs::kX].shape, &out = call.out.shape;
  const Window y = window(in[1], out[1], attrs.kernel, attrs.stride, attrs.pad_top, last);
  const Window x = window(in[2], out[2], attrs.kernel, attrs.stride, attrs.pad_left, last);
  attrs.pad_top = y.pad_before, attrs.pad_bottom = y.pad_after;
  attrs.pad_left = x.pad_before, attrs.pad_right = x.pad_after;
  for (int slot : {int(Conv2dAttrs::kX), int(Conv2dAttrs::kX2)})
    part.call.in[slot] = cut(cut(call.in[slot], 1, y.in_begin, y.in_count), 2, x.in_begin, x.in_count);
  TensorView& residual = part.call.in[Conv2dAttrs::kResidual];
  residual = cut(cut(residual, 1, y.out_begin, y.out_count), 2, x.out_begin, x.out_count);
  part.call.out = cut(cut(call.out, 1, y.out_begin, y.out_count), 2, x.out_begin, x.out_count);
  return part;
}

// The last rows of every sample, in those slots and in the output.
Part last_rows(const KernelCall& call, std::initializer_list<int> slots) {
  Part part{*call.attrs, call};
  const int dimension = call.out.rank() - 2;
  const int64_t rows = call.out.shape[dimension], count = std::min(rows, kRowsCompared);
  for (int slot : slots) part.call.in[slot] = cut(call.in[slot], dimension, rows - count, count);
  part.call.out = cut(call.out, dimension, rows - count, count);
  return part;
}

std::vector<Part> parts_of(const KernelCall& call) {
  switch (op_kind(*call.attrs)) {
    case OpKind::gemm:
      // A row bias counts samples by the outermost dimension: of a matrix those are its rows.
      if (call.out.rank() < 3 && call.in[GemmAttrs::kRowBias].present()) return {{*call.attrs, call}};
      return {last_rows(call, {GemmAttrs::kA, GemmAttrs::kResidual})};
    case OpKind::conv2d:
    case OpKind::norm_conv2d: {
      OpAttrs attrs = *call.attrs;
      if (conv2d_attrs(attrs).upsample_height > 0) return {};
      return {conv2d_corner(call, false), conv2d_corner(call, true)};
    }
    case OpKind::attention:
      if (call.attributes<AttentionAttrs>().causal) return {{*call.attrs, call}};
      return {last_rows(call, {AttentionAttrs::kQ})};
    default:
      return {{*call.attrs, call}};
  }
}

double value_at(const TensorView& v, int64_t row, int64_t channel) {
  int64_t at = channel;
  for (int i = v.rank() - 2; i >= 0; --i) {
    at += row % v.shape[i] * v.stride[size_t(i)];
    row /= v.shape[i];
  }
  if (v.dtype == DType::f16) return double(to_float(v.as<f16_t>()[at]));
  return v.dtype == DType::bf16 ? double(to_float(v.as<bf16_t>()[at])) : double(v.as<float>()[at]);
}

double relative_l2(const TensorView& mine, const TensorView& expected) {
  double difference = 0, norm = 0;
  for (int64_t r = 0; r < mine.rows(); ++r)
    for (int64_t c = 0; c < mine.channels(); ++c) {
      const double e = value_at(expected, r, c), d = value_at(mine, r, c) - e;
      difference += d * d;
      norm += e * e;
    }
  return std::sqrt(difference / norm);
}

}  // namespace

Memory allocate(size_t bytes) {
  // Large pages, as the engine's arena has them for all that lies in it.
  constexpr size_t kHugePage = 2 << 20, kSmall = 64 << 10;
  const size_t alignment = bytes < kSmall ? 64 : kHugePage;
  const size_t size = (bytes + 64 + alignment - 1) / alignment * alignment;
  Memory m(std::aligned_alloc(alignment, size));
  if (!m) throw resource_error("no memory for {} MiB of operands", bytes >> 20);
  if (bytes >= kSmall) madvise(m.get(), size, MADV_HUGEPAGE);  // a wish: it may be refused
  return m;
}

void* Operands::take(size_t bytes) {
  memory_.push_back(allocate(bytes));
  return memory_.back().get();
}

Operands::Operands(const Layer& layer) : call_(layer.bound()) {
  const OpDef& op = op_def(op_kind(layer.attrs));
  for (int slot = 0; slot < op.inputs; ++slot) {
    TensorView& v = call_.in[slot];
    if (!v.present()) continue;
    v.data = take(size_t(v.extent()) * dtype_size(v.dtype));
    fill(v);
    if (op.role(slot) == SlotRole::packed) weights_.push_back(v);
  }
  call_.out.data = take(size_t(call_.out.extent()) * dtype_size(call_.out.dtype));
  poison(call_.out);
}

void Operands::prepare(const KernelDef& kernel, ThreadPool& pool) {
  if (kernel.scratch_bytes) call_.scratch = take(kernel.scratch_bytes(call_, pool.size()));
  if (!kernel.pack) return;
  void* packed = take(kernel.packed_bytes(call_));
  by(kernel, pool, [&](const Team& team) { kernel.pack(call_, weights_, packed, team); });
  call_.packed = packed;
}

std::string compare_with_ref(const Operands& operands, ThreadPool& pool) {
  const KernelDef& ref = *find_kernel(op_kind(*operands.call().attrs), "ref");
  Memory packed;
  if (ref.pack) {
    packed = allocate(ref.packed_bytes(operands.call()));
    pool.run([&](const Team& team) { ref.pack(operands.call(), operands.weights(), packed.get(), team); });
  }
  for (Part& part : parts_of(operands.call())) {
    KernelCall call = part.call;
    call.attrs = &part.attrs;
    call.packed = packed.get();
    call.out = TensorView::dense(nullptr, part.call.out.dtype, part.call.out.shape);
    const Memory out = allocate(size_t(call.out.extent()) * dtype_size(call.out.dtype));
    call.out.data = out.get();
    const Memory scratch = allocate(ref.scratch_bytes ? ref.scratch_bytes(call, pool.size()) : 0);
    call.scratch = scratch.get();
    pool.run([&](const Team& team) { ref.launch(call, team); });
    bool rounded = dtype_size(call.out.dtype) == 2;
    for (const TensorView& v : call.in) rounded |= v.present() && dtype_size(v.dtype) == 2;
    const double error = relative_l2(part.call.out, call.out), limit = rounded ? kLimit16 : kLimitF32;
    if (!(error <= limit)) return fmt::format("relative error {:.3g} against ref, limit {:.3g}", error, limit);
  }
  return {};
}

}  // namespace darkroom::bench

#include "tests/support/kernel_call.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "runtime/thread_pool.h"
#include "tests/support/plain.h"

namespace darkroom::testing {

namespace {

constexpr size_t kGuard = 256;
constexpr std::byte kGuardByte{0xa5};

void put(std::byte* base, DType dtype, size_t i, float x) {
  if (dtype == DType::f32) reinterpret_cast<float*>(base)[i] = x;
  if (dtype == DType::bf16) reinterpret_cast<bf16_t*>(base)[i] = to_bf16(x);
  if (dtype == DType::f16) reinterpret_cast<f16_t*>(base)[i] = to_f16(x);
  if (dtype == DType::f64) reinterpret_cast<double*>(base)[i] = x;
  if (dtype == DType::i32) reinterpret_cast<int32_t*>(base)[i] = int32_t(x);
}

float get(const std::byte* base, DType dtype, size_t i) {
  if (dtype == DType::bf16) return to_float(reinterpret_cast<const bf16_t*>(base)[i]);
  if (dtype == DType::f16) return to_float(reinterpret_cast<const f16_t*>(base)[i]);
  if (dtype == DType::f64) return float(reinterpret_cast<const double*>(base)[i]);
  return reinterpret_cast<const float*>(base)[i];
}

std::byte* aligned(std::vector<std::byte>& v) {
  return v.data() + (64 - reinterpret_cast<uintptr_t>(v.data()) % 64) % 64;
}

// Rows of channels `gap` elements apart.
TensorView with_gap(void* data, DType dtype, const Shape& shape, int64_t gap) {
  TensorView v = TensorView::dense(data, dtype, shape);
  int64_t step = shape.channels() + gap;
  for (int i = shape.rank() - 2; i >= 0; --i) {
    v.stride[size_t(i)] = step;
    step *= shape[i];
  }
  return v;
}

// A call with all of its memory on the device under test, and back.
class OnDevice {
 public:
  explicit OnDevice(const KernelCall& host) : call(host) {
    for (int slot = 0; slot < kMaxInputs; ++slot) {
      TensorView& v = call.in[slot];
      if (v.present()) v.data = copy(v.data, size_t(v.extent()) * dtype_size(v.dtype));
    }
  }
  void* copy(const void* host, size_t bytes) {
    memory_.emplace_back(*device_under_test, bytes, "a test");
    device_under_test->upload(memory_.back().data(), host, bytes);
    return memory_.back().data();
  }
  KernelCall call;

 private:
  std::vector<DeviceMemory> memory_;
};

}  // namespace

Backend* device_under_test = nullptr;

void CallMemory::fill(int slot, const Shape& shape, DType dtype, float deviation, float mean, int64_t gap) {
  Operand& o = operands_[slot];
  o.shape = shape;
  o.dtype = dtype;
  o.gap = gap;
  const int64_t pitch = shape.channels() + gap;
  o.bytes.resize(size_t(shape.rows() * pitch) * dtype_size(dtype));
  std::mt19937 generator(uint32_t(slot) * 7919u + uint32_t(shape.elements()));
  std::normal_distribution<float> normal(mean, deviation);
  std::uniform_real_distribution<float> uniform(mean, mean + std::abs(deviation));
  for (int64_t r = 0; r < shape.rows(); ++r)
    for (int64_t c = 0; c < pitch; ++c) {
      const float x = dtype == DType::i32 ? uniform(generator) : normal(generator);
      put(o.bytes.data(), dtype, size_t(r * pitch + c),
          c < shape.channels() ? x : std::numeric_limits<float>::quiet_NaN());
    }
}

TensorView CallMemory::input(int slot) const {
  const Operand& o = operands_[slot];
  if (o.dtype == DType::none) return {};
  return with_gap(const_cast<std::byte*>(o.bytes.data()), o.dtype, o.shape, o.gap);
}

void CallMemory::fill_moments(int slot, int source, int64_t slabs) {
  const Operand& x = operands_[source];
  const int64_t B = x.shape[0], C = x.shape.channels(), pixels = x.shape.rows() / B, pitch = C + x.gap;
  std::vector<float> values;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t slab = 0; slab < slabs; ++slab) {
      const int64_t first = b * pixels + pixels * slab / slabs, last = b * pixels + pixels * (slab + 1) / slabs;
      std::vector<double> mean(static_cast<size_t>(C)), squares(mean);
      const auto at = [&](int64_t p, int64_t c) { return double(get(x.bytes.data(), x.dtype, size_t(p * pitch + c))); };
      for (int64_t c = 0; c < C; ++c) {
        for (int64_t p = first; p < last; ++p) mean[size_t(c)] += at(p, c) / double(last - first);
        for (int64_t p = first; p < last; ++p) squares[size_t(c)] += std::pow(at(p, c) - mean[size_t(c)], 2);
      }
      values.insert(values.end(), size_t(C), float(last - first));
      values.insert(values.end(), mean.begin(), mean.end());
      values.insert(values.end(), squares.begin(), squares.end());
    }
  Operand& o = operands_[slot];
  o.shape = Shape{B, slabs, 3, C};
  o.dtype = DType::f32;
  o.bytes.resize(values.size() * sizeof(float));
  std::memcpy(o.bytes.data(), values.data(), o.bytes.size());
}

bool CallMemory::rejected_by(const KernelDef& kernel) const {
  KernelCall call;
  call.attrs = &attrs_;
  for (int i = 0; i < kMaxInputs; ++i) call.in[i] = input(i);
  call.out = with_gap(nullptr, out_dtype_, infer_shape(attrs_, call.in), out_gap_);
  return kernel.reject(call) != nullptr;
}

std::vector<float> CallMemory::run(const KernelDef& kernel, int team, DType out_dtype,
                                   std::vector<float>* moments) const {
  KernelCall call;
  call.attrs = &attrs_;
  for (int i = 0; i < kMaxInputs; ++i) call.in[i] = input(i);
  const Shape shape = infer_shape(attrs_, call.in);
  const int64_t pitch = shape.channels() + out_gap_;
  const size_t out_elements = size_t(shape.rows() * pitch), out_bytes = out_elements * dtype_size(out_dtype);
  std::vector<std::byte> out_memory(out_bytes + 2 * kGuard + 64, kGuardByte);
  std::byte* out = aligned(out_memory) + kGuard;
  for (size_t i = 0; i < out_elements; ++i) put(out, out_dtype, i, std::numeric_limits<float>::quiet_NaN());
  call.out = with_gap(out, out_dtype, shape, out_gap_);
  if (const char* reason = kernel.reject(call); reason && out_dtype != DType::f64)
    throw std::runtime_error(std::string("rejected: ") + reason);

  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr size_t kBehind = 16;  // floats of a guard band
  std::vector<float> moments_memory;
  if (const int64_t slabs = moments && kernel.moments_slabs ? kernel.moments_slabs(call) : 0) {
    call.moments = TensorView::dense(nullptr, DType::f32, {shape[0], slabs, 3, shape.channels()});
    moments_memory.assign(size_t(call.moments.shape.elements()) + 2 * kBehind, kNan);
    call.moments.data = moments_memory.data() + kBehind;
  }

  ThreadPool pool(team);
  // Work memory and packed weights hold NaN in every type until they are written.
  std::vector<std::byte> scratch(kernel.scratch_bytes ? kernel.scratch_bytes(call, team) + 64 : 64, std::byte{0xff});
  call.scratch = aligned(scratch);
  std::vector<std::byte> packed;
  if (kernel.pack) {
    packed.resize(kernel.packed_bytes(call) + 64, std::byte{0xff});
    void* to = aligned(packed);
    const OpDef& op = op_def(kernel.op);
    std::vector<TensorView> parts;
    for (int slot = 0; slot < op.inputs; ++slot)
      if (op.role(slot) == SlotRole::packed) parts.push_back(call.in[slot]);
    pool.run([&](const Team& t) { kernel.pack(call, parts, to, t); });
    call.packed = to;
  }
  if (is_cuda(kernel.isa) && device_under_test) {
    OnDevice device(call);
    void* const guarded = device.copy(out - kGuard, out_bytes + 2 * kGuard);
    device.call.out.data = static_cast<std::byte*>(guarded) + kGuard;
    device.call.scratch = device.copy(call.scratch, scratch.size() - 64);
    if (kernel.pack) device.call.packed = device.copy(call.packed, packed.size() - 64);
    void* const of_moments = device.copy(moments_memory.data(), moments_memory.size() * sizeof(float));
    if (call.moments.present()) device.call.moments.data = static_cast<float*>(of_moments) + kBehind;
    device_under_test->run(kernel, device.call);
    device_under_test->download(out - kGuard, guarded, out_bytes + 2 * kGuard);
    device_under_test->download(moments_memory.data(), of_moments, moments_memory.size() * sizeof(float));
  } else if (is_cuda(kernel.isa))
    kernel.enqueue(call, Stream{});
  else
    pool.run([&](const Team& t) { kernel.launch(call, t); });

  for (size_t i = 0; i < kGuard; ++i)
    if (out[-1 - std::ptrdiff_t(i)] != kGuardByte || out[out_bytes + i] != kGuardByte)
      throw std::runtime_error("wrote outside of the output");
  if (moments && call.moments.present()) {
    for (size_t i = 0; i < kBehind; ++i)
      if (!std::isnan(moments_memory[i]) || !std::isnan(moments_memory[moments_memory.size() - 1 - i]))
        throw std::runtime_error("wrote outside of the moments");
    moments->assign(moments_memory.begin() + kBehind, moments_memory.end() - kBehind);
  }
  std::vector<float> result;
  for (int64_t r = 0; r < shape.rows(); ++r)
    for (int64_t c = 0; c < pitch; ++c) {
      const float x = get(out, out_dtype, size_t(r * pitch + c));
      if (c < shape.channels())
        result.push_back(x);
      else if (!std::isnan(x))
        throw std::runtime_error("wrote between the rows of the output");
    }
  return result;
}

CallMemory CallMemory::first_sample() const {
  CallMemory first = *this;
  for (int slot = 0; slot < op_def(op_kind(attrs_)).inputs; ++slot) {
    Operand& o = first.operands_[slot];
    if (op_def(op_kind(attrs_)).role(slot) != SlotRole::activation || o.dtype == DType::none) continue;
    o.bytes.resize(o.bytes.size() / size_t(o.shape[0]));
    o.shape[0] = 1;
  }
  return first;
}

CallMemory CallMemory::with_bf16_weights() const {
  CallMemory rounded = *this;
  const OpDef& op = op_def(op_kind(attrs_));
  for (int slot = 0; slot < op.inputs; ++slot) {
    Operand& o = rounded.operands_[slot];
    if (op.role(slot) != SlotRole::packed || o.dtype == DType::none || o.dtype == DType::bf16) continue;
    const size_t elements = o.bytes.size() / dtype_size(o.dtype);
    std::vector<std::byte> bytes(elements * sizeof(bf16_t));
    for (size_t i = 0; i < elements; ++i) put(bytes.data(), DType::bf16, i, get(o.bytes.data(), o.dtype, i));
    o.bytes = std::move(bytes);
    o.dtype = DType::bf16;
  }
  return rounded;
}

namespace {

std::vector<const KernelDef*> runnable_kernels(OpKind op) {
  std::vector<const KernelDef*> kernels;
  for (const KernelDef* kernel : kernels_of(op))
    if (kernel->variant != "ref" && runs_on(kernel->isa, detected_isa())) kernels.push_back(kernel);
  return kernels;
}

std::set<const KernelDef*> held;

// The moments of all slabs together against those of the output, computed in double.
void expect_moments_of(const std::vector<float>& out, const std::vector<float>& moments, const Shape& x) {
  const size_t B = size_t(x[0]), C = size_t(x.channels()), pixels = out.size() / B / C;
  const size_t slabs = moments.size() / B / 3 / C;
  for (size_t b = 0; b < B; ++b)
    for (size_t c = 0; c < C; ++c) {
      double mean = 0, squares = 0, count = 0, sum = 0, total = 0;
      for (size_t p = 0; p < pixels; ++p) mean += double(out[(b * pixels + p) * C + c]) / double(pixels);
      for (size_t p = 0; p < pixels; ++p) squares += std::pow(out[(b * pixels + p) * C + c] - mean, 2);
      const auto of_slab = [&](size_t slab, size_t row) {
        return double(moments[((b * slabs + slab) * 3 + row) * C + c]);
      };
      for (size_t s = 0; s < slabs; ++s) count += of_slab(s, 0), sum += of_slab(s, 0) * (of_slab(s, 1) - mean);
      for (size_t s = 0; s < slabs; ++s) total += of_slab(s, 2) + of_slab(s, 0) * std::pow(of_slab(s, 1) - mean, 2);
      // Means of slabs are rounded to f32, which their distances and squares feel.
      const double n = double(pixels), size = std::abs(mean) + std::sqrt(squares / n), rounded = 2e-7 * std::abs(mean);
      const bool right = count == n && std::abs(sum / n) <= 1e-6 * size &&
                         std::abs(total - squares) <= 2e-5 * squares + rounded * (std::sqrt(squares * n) + rounded * n);
      if (right) continue;
      ADD_FAILURE() << "moments of sample " << b << ", channel " << c << " in " << slabs << " slabs: " << count
                    << " pixels, mean off by " << sum / n << " of " << mean << ", squares " << total << ", not "
                    << squares;
      return;
    }
}

}  // namespace

void expect_moments(const CallMemory& call, const KernelDef& kernel, const std::vector<float>& out) {
  std::vector<float> one, other;
  EXPECT_EQ(call.run_with_moments(kernel, 1, one), out) << kernel.variant << " that leaves moments";
  if (one.empty()) return;  // not of this call
  const TensorView x = call.input(Conv2dAttrs::kX);
  expect_moments_of(out, one, Shape{x.shape[0], call.input(Conv2dAttrs::kWeight).shape[0]});
  for (int team : {2, 3}) {
    if (is_cuda(kernel.isa)) break;
    EXPECT_EQ(call.run_with_moments(kernel, team, other), out) << kernel.variant << " with " << team << " threads";
    EXPECT_EQ(other, one) << "moments of " << kernel.variant << " with " << team << " threads";
  }
  const std::vector<float> first = call.first_sample().run_with_moments(kernel, 1, other);
  one.resize(one.size() / size_t(x.shape[0]));
  if (is_cuda(kernel.isa)) {  // whose tiles and splits follow from all samples, but not its slabs
    ASSERT_EQ(other.size(), one.size()) << kernel.variant;
    expect_moments_of(first, other, Shape{1, call.input(Conv2dAttrs::kWeight).shape[0]});
    return;
  }
  EXPECT_EQ(other, one) << "moments of " << kernel.variant << ", of the first sample alone";
}

namespace {

void hold(const CallMemory& call, const KernelDef& kernel, const std::vector<float>& expected, double limit) {
  const std::vector<float> one = call.run(kernel, 1);
  const double error = relative_l2(one, expected);
  if (kernel.inexact) limit += kTransformFloor;
  if (!(error <= limit)) ADD_FAILURE() << kernel.variant << ": relative error " << error << ", limit " << limit;
  if (kernel.moments_slabs) expect_moments(call, kernel, one);
  if (is_cuda(kernel.isa)) return;
  for (int team : {2, 3}) EXPECT_EQ(call.run(kernel, team), one) << kernel.variant << " with " << team << " threads";
}

// Whether it multiplies bf16, whatever the weights are stored in.
bool rounds_weights(const KernelDef& kernel) {
  return kernel.variant.starts_with("avx512_bf16") || kernel.variant.starts_with("amx_bf16") ||
         kernel.variant.ends_with("mma_bf16");
}

std::vector<const KernelDef*> accepting_kernels(const CallMemory& call, OpKind op) {
  std::vector<const KernelDef*> kernels = kernels_under_test(op);
  const bool any = !kernels.empty();
  std::erase_if(kernels, [&](const KernelDef* kernel) { return call.rejected_by(*kernel); });
  EXPECT_TRUE(all_may_refuse || !any || !kernels.empty()) << "no fast kernel ran";
  held.insert(kernels.begin(), kernels.end());
  return kernels;
}

}  // namespace

KernelsUnderTest kernels_under_test = runnable_kernels;
bool all_may_refuse = false;

bool was_held(const KernelDef& kernel) { return held.contains(&kernel); }

void expect_kernels_agree(const CallMemory& call, OpKind op) {
  const std::vector<const KernelDef*> kernels = accepting_kernels(call, op);
  if (kernels.empty()) return;
  const std::vector<float> expected = call.run(*find_kernel(op, "ref"), 1, DType::f64);
  const auto twice_the_plain_loop = [&](const CallMemory& c) {
    return 2 * relative_l2(c.run(plain_kernel(op), 1), expected) + kFloor;
  };
  const double limit = twice_the_plain_loop(call);
  for (const KernelDef* kernel : kernels) {
    if (!rounds_weights(*kernel)) {
      hold(call, *kernel, expected, limit);
      continue;
    }
    // What a norm leaves is rounded to bf16 like the weights: 2^-9 at most, where a norm of its own would have stored the same.
    const double rounded = op == OpKind::norm_conv2d ? 0x1p-9 : 0;
    hold(call, *kernel, expected, twice_the_plain_loop(call.with_bf16_weights()) + rounded);
  }
}

void expect_kernels_agree(const CallMemory& call, OpKind op, double limit) {
  const std::vector<const KernelDef*> kernels = accepting_kernels(call, op);
  if (kernels.empty()) return;
  const std::vector<float> expected = call.run(*find_kernel(op, "ref"), 1);
  for (const KernelDef* kernel : kernels) hold(call, *kernel, expected, limit);
}

double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    norm += double(b[i]) * b[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace darkroom::testing

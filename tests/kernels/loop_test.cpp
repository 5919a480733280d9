// The ops of the denoising loop, and to_rgb: every implementation against the formulas of kernels/loop/loop.h, written out.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "model/rng.h"
#include "runtime/backend.h"

namespace darkroom {
namespace {

// Runs `test(backend, kernel)` for every implementation of the op that this machine can run.
template <typename Test>
void for_kernels(OpKind op, Test test) {
  const std::unique_ptr<Backend> cpu = make_cpu_backend(2);
  const std::unique_ptr<Backend> cuda = why_no_cuda() ? nullptr : make_cuda_backend(1);
  int ran = 0;
  for (const KernelDef* kernel : kernels_of(op)) {
    const bool on_gpu = kernel->launch == nullptr;
    if (on_gpu && !cuda) continue;
    SCOPED_TRACE(fmt::format("{} {}", op_def(op).name, kernel->variant));
    test(on_gpu ? *cuda : *cpu, *kernel);
    ++ran;
  }
  EXPECT_GT(ran, 0);
}

// Operands of one call in memory of a device.
class Call {
 public:
  Call(Backend& backend, OpAttrs attrs) : backend_(backend), attrs_(std::move(attrs)) { call_.attrs = &attrs_; }

  template <typename T>
  void input(int slot, const Shape& shape, DType dtype, const std::vector<T>& values) {
    call_.in[slot] = TensorView::dense(upload(values), dtype, shape);
  }
  template <typename T>
  void output(DType dtype, const std::vector<T>& before) {
    call_.out = TensorView::dense(upload(before), dtype, infer_shape(attrs_, call_.in));
  }
  void output_is_input(int slot) { call_.out = call_.in[slot]; }

  template <typename T>
  std::vector<T> run(const KernelDef& kernel) {
    EXPECT_EQ(kernel.reject(call_), nullptr) << kernel.reject(call_);
    backend_.run(kernel, call_);
    std::vector<T> result(size_t(call_.out.shape.elements()));
    backend_.download(result.data(), call_.out.data, result.size() * sizeof(T));
    return result;
  }

 private:
  template <typename T>
  void* upload(const std::vector<T>& values) {
    memory_.emplace_back(backend_, values.size() * sizeof(T), "a test");
    backend_.upload(memory_.back().data(), values.data(), values.size() * sizeof(T));
    return memory_.back().data();
  }

  Backend& backend_;
  OpAttrs attrs_;
  KernelCall call_;
  std::vector<DeviceMemory> memory_;
};

std::vector<float> normal(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> v(n);
  for (float& x : v) x = distribution(generator);
  return v;
}

constexpr int64_t kHeight = 5, kWidth = 7, kChannels = 4, kPixels = kHeight * kWidth, kNumbers = kPixels * kChannels;

// Three calls; the one in the middle is meant.
std::vector<int32_t> table(const LoopCall& middle) {
  LoopCall other{};
  other.input_scale = 99;
  other.draw = -1;
  std::vector<int32_t> words(size_t(3 * kLoopCallWords));
  for (int64_t row = 0; row < 3; ++row)
    std::memcpy(words.data() + row * kLoopCallWords, row == 1 ? &middle : &other, sizeof(LoopCall));
  return words;
}

TEST(Loop, InputIsScaledBroadcastAndWidened) {
  LoopCall now{};
  now.input_scale = 0.3f;
  const std::vector<float> slots = normal(3 * kNumbers, 1), extra = normal(kPixels * 5, 2);
  for (const bool widened : {false, true})
    for_kernels(OpKind::loop_input, [&](Backend& backend, const KernelDef& kernel) {
      Call call(backend, LoopInputAttrs{2});
      call.input(LoopInputAttrs::kCalls, {3, kLoopCallWords}, DType::i32, table(now));
      call.input(LoopInputAttrs::kIndex, {1}, DType::i32, std::vector<int32_t>{1});
      call.input(LoopInputAttrs::kSlots, {3, kHeight, kWidth, kChannels}, DType::f32, slots);
      if (widened) call.input(LoopInputAttrs::kExtra, {kHeight, kWidth, 5}, DType::f32, extra);
      const int64_t width = widened ? 9 : 4;
      call.output(DType::f32, std::vector<float>(size_t(2 * kPixels * width), NAN));
      const std::vector<float> out = call.run<float>(kernel);
      for (int64_t b = 0; b < 2; ++b)
        for (int64_t p = 0; p < kPixels; ++p)
          for (int64_t c = 0; c < width; ++c)
            EXPECT_EQ(out[size_t((b * kPixels + p) * width + c)],
                      c < 4 ? 0.3f * slots[size_t(p * 4 + c)] : extra[size_t(p * 5 + c - 4)]);
    });
}

// In f64, with the noise of the pipeline's own generator.
struct Expected {
  std::vector<double> slots;
  std::vector<double> magnitude;  // Σ |terms|: what rounding is a part of
};
Expected update(const LoopCall& now, int64_t slots, const std::vector<float>& before, const std::vector<float>& model,
                int64_t batch, const std::vector<float>& planar, const std::vector<float>& keep,
                const std::vector<float>& image, const std::vector<float>& start) {
  Expected e{{before.begin(), before.end()}, std::vector<double>(before.size(), 0.0)};
  for (size_t i = 0; i < size_t(kNumbers); ++i) {
    const auto at = [&](int64_t slot) -> double& { return e.slots[size_t(slot * kNumbers) + i]; };
    const auto size = [&](int64_t slot) -> double& { return e.magnitude[size_t(slot * kNumbers) + i]; };
    for (int64_t k = 0; k < slots; ++k) size(k) = std::abs(at(k));
    at(kLoopModel) = size(kLoopModel) = 0;
    for (int64_t b = 0; b < batch; ++b) {
      const double term = double(now.guidance[b]) * model[size_t(b * kNumbers) + i];
      at(kLoopModel) += term;
      size(kLoopModel) += std::abs(term);
    }
    if (now.draw >= 0) at(kLoopNoise) = planar[i % kChannels * kPixels + i / kChannels];
    for (int u = 0; u < now.updates; ++u) {
      double sum = 0, total = 0;
      for (int64_t k = 0; k < slots; ++k) {
        if (now.update[u].c[k] == 0) continue;
        sum += double(now.update[u].c[k]) * at(k);
        total += std::abs(double(now.update[u].c[k])) * size(k);
      }
      at(now.update[u].slot) = sum;
      size(now.update[u].slot) = total;
    }
    if (keep.empty()) continue;
    const double joined = double(now.image_signal) * image[i] + double(now.image_noise) * start[i];
    at(0) += keep[i] * (joined - at(0));
    size(0) += std::abs(joined);
  }
  return e;
}

TEST(Loop, UpdateMixesDrawsUpdatesAndMasks) {
  for (const int64_t slots : {3, 5, 8})
    for (const int64_t batch : {1, 2})
      for (const bool masked : {false, true})
        for (const bool draws : {false, true}) {
          SCOPED_TRACE(fmt::format("{} slots, batch {}, masked {}, draws {}", slots, batch, masked, draws));
          LoopCall now{};
          now.guidance[0] = batch == 2 ? -6.5f : 1.0f;
          now.guidance[1] = 7.5f;
          now.image_signal = 0.8f;
          now.image_noise = 0.6f;
          constexpr uint64_t kSeed = 0x123456789abcull;
          now.draw = draws ? 2 : -1;
          now.seed[0] = uint32_t(kSeed);
          now.seed[1] = uint32_t(kSeed >> 32);
          now.updates = int32_t(std::min<int64_t>(slots, LoopCall::kMaxUpdates));
          const std::vector<float> c = normal(64, 7);
          for (int u = 0; u < now.updates; ++u) {
            now.update[u].slot = int32_t((u * 3) % slots);
            for (int64_t k = 0; k < slots; ++k) now.update[u].c[k] = k == 4 ? 0.0f : c[size_t(u * 8 + k)];
          }
          std::vector<float> before = normal(size_t(slots * kNumbers), 3);
          // A slot without a coefficient is not read: what was never computed may lie there.
          if (slots > 4)
            for (int64_t i = 0; i < kNumbers; ++i) before[size_t(4 * kNumbers + i)] = 1e30f;
          const std::vector<float> model = normal(size_t(batch * kNumbers), 4), image = normal(kNumbers, 5),
                                   start = normal(kNumbers, 6);
          std::vector<float> keep(kNumbers), planar(kNumbers);
          for (size_t i = 0; i < keep.size(); ++i) keep[i] = i % 3 == 0 ? 1.0f : 0.0f;
          NoiseSource noise(RngKind::cuda, kSeed);
          for (int d = 0; d < 3; ++d) noise.normal(planar.data(), planar.size());
          const Expected expected =
              update(now, slots, before, model, batch, planar, masked ? keep : std::vector<float>(), image, start);
          for (const bool in_place : {false, true})
            for_kernels(OpKind::loop_update, [&](Backend& backend, const KernelDef& kernel) {
              using S = LoopUpdateAttrs;
              Call call(backend, S{});
              const Shape map{kHeight, kWidth, kChannels};
              call.input(S::kCalls, {3, kLoopCallWords}, DType::i32, table(now));
              call.input(S::kIndex, {1}, DType::i32, std::vector<int32_t>{1});
              call.input(S::kModel, {batch, kHeight, kWidth, kChannels}, DType::f32, model);
              call.input(S::kSlots, {slots, kHeight, kWidth, kChannels}, DType::f32, before);
              if (masked) {
                call.input(S::kKeep, map, DType::f32, keep);
                call.input(S::kImage, map, DType::f32, image);
                call.input(S::kStart, map, DType::f32, start);
              }
              if (in_place)
                call.output_is_input(S::kSlots);
              else
                call.output(DType::f32, std::vector<float>(before.size(), NAN));
              const std::vector<float> out = call.run<float>(kernel);
              // f32 sums of at most eight terms, up to six deep; noise within 1e-6.
              for (size_t i = 0; i < out.size(); ++i) {
                const double limit = 64 * 0x1p-24 * (expected.magnitude[i] + 1e-30);
                if (!(std::abs(out[i] - expected.slots[i]) <= limit + 2e-5))
                  FAIL() << "slot " << i / size_t(kNumbers) << " element " << i % size_t(kNumbers) << ": " << out[i]
                         << ", expected " << expected.slots[i];
              }
            });
        }
}

TEST(Loop, AdvanceCounts) {
  for_kernels(OpKind::loop_advance, [&](Backend& backend, const KernelDef& kernel) {
    Call call(backend, LoopAdvanceAttrs{});
    call.input(LoopAdvanceAttrs::kIndex, {1}, DType::i32, std::vector<int32_t>{41});
    call.output_is_input(LoopAdvanceAttrs::kIndex);
    EXPECT_EQ(call.run<int32_t>(kernel), std::vector<int32_t>{42});
    EXPECT_EQ(call.run<int32_t>(kernel), std::vector<int32_t>{43});
  });
}

TEST(ToRgb, RoundsToEvenClampsAndMakesBlackOfNaN) {
  std::vector<float> x = {-1.0f, 1.0f, 0.0f, 2.0f, -3.0f, NAN, INFINITY, -INFINITY, 0.5f, -0.996f};
  std::vector<uint8_t> expected = {0, 255, 128, 255, 0, 0, 255, 0, 191, 1};
  for (const float v : normal(1000, 1)) {
    x.push_back(v);
    const double level = std::min(1.0, std::max(0.0, double(v * 0.5f + 0.5f)));
    expected.push_back(uint8_t(std::nearbyint(float(level) * 255.0f)));
  }
  x.resize(1008, 0.0f);  // whole pixels
  expected.resize(1008, 128);
  for_kernels(OpKind::to_rgb, [&](Backend& backend, const KernelDef& kernel) {
    Call call(backend, ToRgbAttrs{});
    call.input(ToRgbAttrs::kX, {2, 12, 14, 3}, DType::f32, x);
    call.output(DType::u8, std::vector<uint8_t>(x.size(), 77));
    EXPECT_EQ(call.run<uint8_t>(kernel), expected);
  });
}

TEST(ToRgb, FromZeroToOne) {
  for_kernels(OpKind::to_rgb, [&](Backend& backend, const KernelDef& kernel) {
    Call call(backend, ToRgbAttrs{1.0f, 0.0f});
    call.input(ToRgbAttrs::kX, {1, 2, 3}, DType::f32, std::vector<float>{-0.5f, 0.0f, 0.25f, 0.5f, 1.0f, 1.5f});
    call.output(DType::u8, std::vector<uint8_t>(6, 77));
    EXPECT_EQ(call.run<uint8_t>(kernel), (std::vector<uint8_t>{0, 0, 64, 128, 255, 255}));
  });
}

}  // namespace
}  // namespace darkroom

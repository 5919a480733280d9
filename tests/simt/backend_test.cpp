// The CUDA backend on the emulator: what a run costs the host, what a capture forbids, what is said where memory ends, and a
// loop of a small UNet that gives what the CPU gives.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <simt/device_memory.h>

#include "kernels/core/error.h"
#include "kernels/core/launches.h"
#include "model/loop.h"
#include "tests/support/graph_run.h"

namespace darkroom::testing {
namespace {

using simt::device_counters;
using ::testing::HasSubstr;

UNetConfig small_unet() {
  UNetConfig c;
  c.block_out_channels = {16, 32};
  c.down_attention = {true, false};
  c.up_attention = {false, true};
  c.layers_per_block = {1, 1};
  c.num_attention_heads = {2, 4};
  c.transformer_layers_per_block = {1, 1};
  c.cross_attention_dim = 24;
  c.norm_num_groups = 8;
  return c;
}

constexpr int64_t kHeight = 4, kWidth = 6, kTokens = 5, kNumbers = kHeight * kWidth * 4;

struct LoopRun {
  std::vector<float> latents;
  simt::DeviceCounters first, last;  // after the first call, after the last
  int calls = 0;
};

LoopRun run_loop(Device device, DType dtype, const DisabledPasses& disabled = {}) {
  const UNetGraphOptions unet{2, kHeight, kWidth, kTokens, dtype};
  NamedWeights weights;
  weights.add(build_unet(small_unet(), unet));
  SessionOptions options;
  options.device = device;
  options.disabled_passes = disabled;
  Session session(weights, options);
  Loop loop(session, small_unet(), unet);
  Conditioning conditioning;
  for (int64_t i = 0; i < 2 * kTokens * 24; ++i) conditioning.context.push_back(float(i % 17) * 0.1f - 0.8f);
  SamplerOptions sampler;
  sampler.sampler = "euler_a";
  sampler.steps = 3;
  const SamplerProgram program = make_program({}, sampler);
  LoopRequest request;
  request.program = &program;
  request.conditioning = &conditioning;
  request.guided_calls = 3;
  request.guidance = 3.0f;
  request.philox_seed = 42;
  for (int64_t i = 0; i < kNumbers; ++i)
    request.latents.push_back(float(program.init_noise_sigma) * (float(i % 13) / 6.0f - 1.0f));
  loop.begin(request);
  LoopRun run;
  for (; run.calls < int(program.steps.size()); ++run.calls) {
    EXPECT_TRUE(loop.run());
    if (run.calls == 0) run.first = device_counters();
  }
  run.last = device_counters();
  run.latents = loop.read(kSlotX);
  EXPECT_EQ(session.reference_steps().size(), 0u);
  return run;
}

TEST(CudaBackend, ACallOfTheLoopIsOneLaunch) {
  const LoopRun run = run_loop(Device::cuda, DType::f32);
  ASSERT_EQ(run.calls, 3);
  EXPECT_EQ(run.last.graph_launches - run.first.graph_launches, 2u);
  EXPECT_EQ(run.last.launches, run.first.launches);
  EXPECT_EQ(run.last.copies, run.first.copies);
  EXPECT_EQ(run.last.allocations, run.first.allocations);
}

TEST(CudaBackend, TheLoopGivesWhatTheCpuGives) {
  const std::vector<float> cpu = run_loop(Device::cpu, DType::f32).latents;
  EXPECT_LE(relative_l2(run_loop(Device::cuda, DType::f32).latents, cpu), 2e-5);
  // In bf16 no more than twice as far from that as the CPU's own kernels are.
  const double bf16 = relative_l2(run_loop(Device::cpu, DType::bf16).latents, cpu);
  EXPECT_LE(relative_l2(run_loop(Device::cuda, DType::bf16).latents, cpu), 2 * bf16);
}

// What norms take from moments is what they would find by themselves, but for the last bits.
TEST(CudaBackend, MomentsChangeRoundingsAlone) {
  const std::vector<float> with = run_loop(Device::cuda, DType::f32).latents,
                           without = run_loop(Device::cuda, DType::f32, {"conv_moments"}).latents;
  EXPECT_NE(with, without);
  EXPECT_LE(relative_l2(with, without), 2e-5);
}

TEST(CudaBackend, TheSamePlanGivesTheSameBits) {
  EXPECT_EQ(run_loop(Device::cuda, DType::bf16).latents, run_loop(Device::cuda, DType::bf16).latents);
}

TEST(CudaBackend, LeavesNoMemoryBehind) {
  const size_t before = device_counters().allocated;
  run_loop(Device::cuda, DType::f32);
  EXPECT_EQ(device_counters().allocated, before);
}

// A kernel that does on the host what a capture does not allow.
const KernelDef* advance_kernel() {
  for (const KernelDef* kernel : kernels_of(OpKind::loop_advance))
    if (is_cuda(kernel->isa)) return kernel;
  return nullptr;
}
Backend* backend_of_test = nullptr;
void enqueue_and_allocate(const KernelCall& call, const Stream& stream) {
  advance_kernel()->enqueue(call, stream);
  DeviceMemory(*backend_of_test, 16, "a forbidden allocation");
}

TEST(CudaBackend, AnAllocationBreaksACapture) {
  const std::unique_ptr<Backend> backend = make_cuda_backend(1);
  backend_of_test = backend.get();
  Graph graph("test");
  graph.output("next", graph.add("advance", LoopAdvanceAttrs{}, {graph.input("call", {1}, DType::i32)}, DType::i32));
  PlanOptions options;
  options.isa = backend->isa();
  Plan plan = make_plan(std::move(graph), options);
  KernelDef wrong = *plan.steps[0].selection.kernel;
  ASSERT_TRUE(is_cuda(wrong.isa));
  wrong.enqueue = enqueue_and_allocate;
  plan.steps[0].selection.kernel = &wrong;
  NamedWeights weights;
  WeightStore store(weights, *backend);
  Arena arena(*backend);
  Executable executable(plan, *backend, arena, store);
  Runner runner(*backend, {&executable}, nullptr, nullptr);
  EXPECT_THROW(runner.run(), Error);
  // The stream is as it was: the honest kernel runs.
  plan.steps[0].selection.kernel = advance_kernel();
  const std::vector<int32_t> seven{7};
  executable.write("call", std::as_bytes(std::span(seven)));
  EXPECT_TRUE(runner.run());
  std::vector<int32_t> next(1);
  executable.read("next", std::as_writable_bytes(std::span(next)));
  EXPECT_EQ(next[0], 8);
}

// CUDA loads a kernel when it is first used: not while a stream is captured.
TEST(CudaBackend, LoadsItsKernelsBeforeACapture) {
  const std::unique_ptr<Backend> backend = make_cuda_backend(1);
  const DeviceMemory memory(*backend, 4, "a test");
  const LoopAdvanceAttrs attrs;
  const OpAttrs any = attrs;
  KernelCall call;
  call.attrs = &any;
  call.in[0] = call.out = TensorView::dense(memory.data(), DType::i32, {1});
  for (const bool load : {false, true}) {
    simt::unload_kernels();
    if (load) cuda::load_kernels(*advance_kernel(), call);
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    advance_kernel()->enqueue(call, {stream});
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), load ? cudaSuccess : cudaErrorStreamCaptureUnsupported);
    cudaGraphDestroy(graph);
    cudaStreamDestroy(stream);
  }
  simt::unload_kernels();
  EXPECT_EQ(run_loop(Device::cuda, DType::bf16).calls, 3);
}

TEST(CudaBackend, SaysWhatItHasNoMemoryFor) {
  const std::unique_ptr<Backend> backend = make_cuda_backend(1);
  const size_t free = *backend->free_memory();
  try {
    DeviceMemory memory(*backend, free + (size_t(1) << 30), "the arena");
    FAIL() << "got it";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::resource);
    EXPECT_THAT(e.what(), HasSubstr("no memory for the arena"));
    EXPECT_THAT(e.what(), HasSubstr(std::to_string(free >> 20) + " MiB are free on emulated GPU"));
  }
}

TEST(CudaBackend, SaysWhyThereIsNone) {
  simt::set_device_memory(0);
  EXPECT_EQ(why_no_cuda(), "the NVIDIA driver shows no GPU");
  EXPECT_EQ(choose_device("auto").device, Device::cpu);
  EXPECT_EQ(choose_device("auto").why, "the NVIDIA driver shows no GPU");
  EXPECT_THROW(make_cuda_backend(1), Error);
  simt::set_device_memory(size_t(4) << 30);
  EXPECT_EQ(choose_device("auto").device, Device::cuda);
}

// Its first grid reads them and no picture; what stores the picture has as many slabs as were planned.
TEST(PlanningBackend, ANormBehindConvolutionsReadsMoments) {
  SessionOptions options;
  options.plan_for = Isa::sm90;
  NamedWeights weights;
  Session session(weights, options);
  const UNetGraphOptions unet{2, 16, 16, kTokens, DType::bf16};
  Graph graph = build_unet(small_unet(), unet);
  int passes = 0;
  for (const PassReport& report : session.fuse(graph))
    if (report.name == "conv_moments") passes = report.count;
  weights.add(graph);
  const Plan plan = session.plan(std::move(graph));
  int given = 0, own = 0;
  for (const Step& step : plan.steps) {
    const KernelCall call = plan.call(step);
    if (call.moments.present()) {
      EXPECT_EQ(step.selection.kernel->moments_slabs(call), call.moments.shape[1]);
    }
    if (step.selection.kernel->op != OpKind::group_norm && step.selection.kernel->op != OpKind::group_norm_silu)
      continue;
    const std::vector<cuda::Launch> launches = cuda::launches_of(*step.selection.kernel, call);
    ASSERT_EQ(launches.size(), 2u);
    const bool moments = call.in[GroupNormAttrs::kMoments].present();
    EXPECT_EQ(launches[0].name, moments ? "group_norm_combine" : "group_norm_statistics");
    ++(moments ? given : own);
  }
  EXPECT_EQ(given, passes);
  EXPECT_GT(given, own);
}

TEST(PlanningBackend, PlansAndLaunchesNeedNoDevice) {
  simt::set_device_memory(0);
  const UNetGraphOptions unet{2, kHeight, kWidth, kTokens, DType::bf16};
  NamedWeights weights;
  weights.add(build_unet(small_unet(), unet));
  SessionOptions options;
  options.plan_for = Isa::sm90;
  Session session(weights, options);
  Graph graph = build_unet(small_unet(), unet);
  session.fuse(graph);
  const Plan plan = session.plan(std::move(graph));
  const uint64_t launched = device_counters().launches;
  for (const Step& step : plan.steps) {
    EXPECT_TRUE(is_cuda(step.selection.kernel->isa));
    const std::vector<cuda::Launch> launches = cuda::launches_of(*step.selection.kernel, plan.call(step));
    ASSERT_FALSE(launches.empty());
    EXPECT_GT(launches.front().blocks(), 0);
    EXPECT_EQ(launches.front().threads % 32, 0);
  }
  EXPECT_EQ(device_counters().launches, launched);
  EXPECT_THROW(session.compile(build_unet(small_unet(), unet)), Error);
  simt::set_device_memory(size_t(4) << 30);
}

}  // namespace
}  // namespace darkroom::testing

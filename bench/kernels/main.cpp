// bench_kernels: every entry of the kernel table on every layer of the real models.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <map>
#include <memory>

#include "bench/kernels/machine.h"
#include "kernels/core/error.h"
#include "model/clip.h"
#include "model/configs.h"
#include "model/synthetic.h"
#include "model/unet.h"
#include "model/vae.h"
#include "runtime/fusion.h"
#include "runtime/plan.h"

namespace {

using namespace darkroom;

struct Free {
  void operator()(void* p) const { std::free(p); }
};
using Memory = std::unique_ptr<void, Free>;

Memory allocate(size_t bytes) {
  Memory m(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
  if (!m) throw resource_error("no memory for {} MiB of operands", bytes >> 20);
  return m;
}

// A layer of a model: the call without memory.
struct Layer {
  OpAttrs attrs;
  KernelCall call;  // attrs is set where it is used
  std::string name;
  Cost cost;
};

// Small numbers that are none of the special ones: 0 ± 1.
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

void run_layer(benchmark::State& state, const Layer& layer, const KernelDef& kernel, ThreadPool& pool,
               const bench::Machine& machine) {
  std::vector<Memory> memory;
  KernelCall call = layer.call;
  call.attrs = &layer.attrs;
  const OpDef& op = op_def(kernel.op);
  std::vector<TensorView> parts;
  for (int slot = 0; slot < op.inputs; ++slot) {
    TensorView& v = call.in[slot];
    if (!v.present()) continue;
    memory.push_back(allocate(size_t(v.extent()) * dtype_size(v.dtype)));
    v.data = memory.back().get();
    fill(v);
    if (op.role(slot) == SlotRole::packed) parts.push_back(v);
  }
  memory.push_back(allocate(size_t(call.out.extent()) * dtype_size(call.out.dtype)));
  call.out.data = memory.back().get();
  if (kernel.scratch_bytes) {
    memory.push_back(allocate(kernel.scratch_bytes(call, pool.size())));
    call.scratch = memory.back().get();
  }
  if (kernel.pack) {
    memory.push_back(allocate(kernel.packed_bytes(call)));
    void* packed = memory.back().get();
    pool.run([&](const Team& t) { kernel.pack(call, parts, packed, t); });
    call.packed = packed;
  }
  for (auto _ : state) pool.run([&](const Team& t) { kernel.launch(call, t); });
  const double runs = double(state.iterations());
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(layer.cost.flops * runs / 1e9, Counter::kIsRate);
  state.counters["GB/s"] = Counter(layer.cost.bytes * runs / 1e9, Counter::kIsRate);
  state.counters["%FMA"] = Counter(100 * layer.cost.flops * runs / machine.flops, Counter::kIsRate);
  state.counters["%BW"] = Counter(100 * layer.cost.bytes * runs / machine.bandwidth, Counter::kIsRate);
}

// Every different call of the family's networks at native size, fused as sdrun runs them.
void collect(const std::string& family, int64_t batch, DType dtype, DType weights,
             std::map<std::string, Layer>& layers) {
  const SyntheticCheckpoint checkpoint(family);
  std::vector<Graph> graphs;
  for (const std::string component : {"text_encoder", "text_encoder_2"})
    if (checkpoint.has_component(component)) {
      ClipGraphOptions options;
      options.dtype = dtype;
      options.batch = batch;
      graphs.push_back(build_clip(
          parse_clip_text_config(checkpoint.required_text(component + "/config.json"), component), component, options));
    }
  const UNetConfig unet = parse_unet_config(checkpoint.required_text("unet/config.json"), "unet");
  const VaeConfig vae = parse_vae_config(checkpoint.required_text("vae/config.json"), "vae");
  graphs.push_back(build_unet(unet, {batch, unet.sample_size, unet.sample_size, 77, dtype}));
  graphs.push_back(build_vae_decoder(vae, {1, unet.sample_size, unet.sample_size, dtype}));
  graphs.push_back(
      build_vae_encoder(vae, {1, unet.sample_size * vae.factor(), unet.sample_size * vae.factor(), dtype}));
  for (Graph& graph : graphs) {
    for (Value& v : graph.mutable_values())
      if (v.kind == ValueKind::weight) v.dtype = v.shape.rank() > 1 ? weights : DType::f32;
    run_fusion(graph, {});
    for (const Node& node : graph.nodes()) {
      Layer layer;
      layer.attrs = node.attrs;
      const OpDef& op = op_def(node.kind());
      std::string shapes;
      for (int slot = 0; slot < op.inputs; ++slot) {
        const ValueId v = node.inputs[size_t(slot)];
        if (v == kNoValue) continue;
        layer.call.in[slot] = graph.view(v);
        if (op.role(slot) == SlotRole::activation) shapes += (shapes.empty() ? "" : "+") + graph.shape(v).to_string();
      }
      layer.call.out = graph.view(node.output);
      layer.cost = op_cost(node.attrs, layer.call.in, layer.call.out);
      std::string what = describe(node.attrs, layer.call.in);
      for (char& c : what)
        if (c == ' ') c = ',';
      layer.name = fmt::format("{}/{}/{}->{}", graph.name(), what, shapes, graph.shape(node.output).to_string());
      layers.emplace(fmt::format("{}/{}/{}", op.name, family, layer.name), layer);
    }
  }
}

int run(int argc, char** argv) {
  CLI::App app(
      "Times the kernels of the table on the layers of real models. What is not listed here goes to Google Benchmark\n"
      "(--benchmark_filter=REGEX, --benchmark_repetitions=N, --benchmark_format=json ...).",
      "bench_kernels");
  std::vector<std::string> families = {"sd15"};
  std::string dtype = "f32", weights = "f16";
  int64_t batch = 2;
  int threads = default_threads();
  bool with_ref = false;
  app.add_option("--models", families, "sd15 sd21 sdxl")->delimiter(',')->capture_default_str();
  app.add_option("--dtype", dtype, "type of activations")->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
  app.add_option("--weights", weights, "stored type of weights")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--batch", batch, "2 with guidance")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--threads", threads, "threads")->capture_default_str();
  app.add_flag("--ref", with_ref, "also the reference kernels, which take minutes on large layers");
  app.allow_extras();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  std::vector<std::string> rest = app.remaining();
  std::vector<char*> arguments = {argv[0]};
  for (std::string& a : rest) arguments.push_back(a.data());
  int count = int(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  const auto type = [](const std::string& t) {
    return t == "f32" ? DType::f32 : t == "f16" ? DType::f16 : DType::bf16;
  };
  std::map<std::string, Layer> layers;
  for (const std::string& family : families) collect(family, batch, type(dtype), type(weights), layers);
  ThreadPool pool(threads);
  const bench::Machine machine = bench::measure_machine(pool);
  benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext("types", "activations " + dtype + ", weights " + weights);
  benchmark::AddCustomContext("FMA peak", fmt::format("{:.1f} GFLOP/s", machine.flops / 1e9));
  benchmark::AddCustomContext("bandwidth", fmt::format("{:.1f} GB/s", machine.bandwidth / 1e9));
  for (const auto& entry : layers) {
    const std::string& name = entry.first;
    const Layer& layer = entry.second;
    for (const KernelDef* kernel : kernels_of(op_kind(layer.attrs))) {
      KernelCall call = layer.call;
      call.attrs = &layer.attrs;
      if (!runs_on(kernel->isa, active_isa()) || kernel->reject(call) || (kernel->isa == Isa::baseline && !with_ref)) continue;
      const std::string full =
          fmt::format("{}/{}{}", op_def(kernel->op).name, kernel->variant, name.substr(name.find('/')));
      benchmark::RegisterBenchmark(full.c_str(),
                                   [&layer, kernel, &pool, &machine](benchmark::State& state) {
                                     run_layer(state, layer, *kernel, pool, machine);
                                   })
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "bench_kernels: {}\n", e.what());
    return 1;
  }
}

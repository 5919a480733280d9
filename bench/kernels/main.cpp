// bench_kernels: every entry of the kernel table, and other libraries' beside them, on every layer of real models; of the CPU or of
// a GPU.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <thread>

#include "bench/common/model.h"
#include "bench/kernels/alternate.h"
#include "bench/kernels/gpu.h"
#include "bench/kernels/layers.h"
#include "bench/kernels/libraries.h"
#include "bench/kernels/machine.h"
#include "bench/kernels/operands.h"
#include "kernels/core/error.h"
#include "tools/common/run_main.h"

namespace {

using namespace darkroom;
using bench::Layer;
using bench::Layers;

// Threads that another library left spinning shall not disturb the next measurement; then a run to wake the team, where that
// is cheap.
constexpr auto kSettle = std::chrono::milliseconds(120);
constexpr double kCheapFlops = 1e12;

// The table's entries, then the libraries'.
std::vector<const KernelDef*> candidates(OpKind op, std::span<const bench::Library> libraries) {
  std::vector<const KernelDef*> all(kernels_of(op).begin(), kernels_of(op).end());
  for (const bench::Library& library : libraries)
    for (const KernelDef* kernel : library.kernels)
      if (kernel->op == op) all.push_back(kernel);
  return all;
}

struct Setup {
  ThreadPool& pool;
  const bench::Machine& machine;
  bool check, settle;
  int* wrong;
};

// Whether the output is not that of `ref`: then the benchmark says so and is not timed.
bool is_wrong(benchmark::State& state, const bench::Operands& operands, const Setup& setup) {
  const std::string wrong = bench::compare_with_ref(operands, setup.pool);
  if (wrong.empty()) return false;
  ++*setup.wrong;
  state.SkipWithError(wrong.c_str());
  return true;
}

void count(benchmark::State& state, const Layer& layer, const Setup& setup) {
  const double runs = double(state.iterations());
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(layer.cost.flops * runs / 1e9, Counter::kIsRate);
  state.counters["GB/s"] = Counter(layer.cost.bytes * runs / 1e9, Counter::kIsRate);
  const double peak = dtype_size(layer.call.in[0].dtype) == 2 ? setup.machine.flops_bf16 : setup.machine.flops;
  state.counters["%FMA"] = Counter(100 * layer.cost.flops * runs / peak, Counter::kIsRate);
  state.counters["%BW"] = Counter(100 * layer.cost.bytes * runs / setup.machine.bandwidth, Counter::kIsRate);
}

void run_layer(benchmark::State& state, const Layer& layer, const KernelDef& kernel, const Setup& setup) {
  bench::Operands operands(layer);
  operands.prepare(kernel, setup.pool);
  operands.launch(kernel, setup.pool);
  if (setup.check && is_wrong(state, operands, setup)) return;
  if (setup.settle) std::this_thread::sleep_for(kSettle);
  if (layer.cost.flops < kCheapFlops) operands.launch(kernel, setup.pool);
  while (state.KeepRunning()) operands.launch(kernel, setup.pool);
  count(state, layer, setup);
}

// The same on a GPU: times are those between two events.
void run_layer_on(bench::Gpu& gpu, bench::CacheState cache, benchmark::State& state, const Layer& layer,
                  const KernelDef& kernel, const Setup& setup) {
  bench::Operands operands(layer);
  bench::GpuOperands on_device(gpu, operands);
  on_device.prepare(kernel);
  if (setup.check) {
    on_device.run_and_download(kernel);
    if (is_wrong(state, operands, setup)) return;
  }
  const auto enqueue = [&](const Stream& stream) { on_device.enqueue(kernel, stream); };
  gpu.seconds(enqueue, cache);
  while (state.KeepRunning()) state.SetIterationTime(gpu.seconds(enqueue, cache));
  count(state, layer, setup);
}

// Products a second of the best library, else of the best kernel here, on a cube of 8192: what a GPU's tensor cores give on
// numbers that are not zero. In f32 without TF32.
double measured_peak(bench::Gpu& gpu, std::span<const bench::Library> libraries, DType type) {
  constexpr int64_t kSide = 8192;
  Layer cube;
  cube.attrs = GemmAttrs{};
  cube.call.in[GemmAttrs::kA] = TensorView::dense(nullptr, type, {kSide, kSide});
  cube.call.in[GemmAttrs::kWeight] = TensorView::dense(nullptr, type, {kSide, kSide});
  cube.call.out = TensorView::dense(nullptr, type, {kSide, kSide});
  double least = 0;
  bench::Operands operands(cube);
  for (const KernelDef* kernel : candidates(OpKind::gemm, libraries)) {
    if (!runs_on(kernel->isa, gpu.backend().isa()) || kernel->reject(cube.bound())) continue;
    bench::GpuOperands on_device(gpu, operands);
    on_device.prepare(*kernel);
    for (int attempt = 0; attempt < 10; ++attempt) {
      const double took = gpu.seconds([&](const Stream& s) { on_device.enqueue(*kernel, s); }, bench::CacheState::warm);
      if (least == 0 || took < least) least = took;
    }
  }
  return 2.0 * kSide * kSide * kSide / least;
}

bench::Machine measure_gpu(bench::Gpu& gpu, std::span<const bench::Library> libraries) {
  bench::Machine machine;
  machine.flops_bf16 = measured_peak(gpu, libraries, DType::bf16);
  machine.flops = measured_peak(gpu, libraries, DType::f32);
  machine.bandwidth = gpu.copy_bandwidth();
  return machine;
}

// What the result file says about where its numbers come from; and on stderr, which libraries there are not.
void add_context(bench::Gpu* gpu, const bench::Machine& machine, int threads, const std::string& types,
                 std::span<const bench::Library> libraries) {
  if (gpu)
    benchmark::AddCustomContext("gpu", gpu->backend().description());
  else
    benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("isa", isa_name(gpu ? gpu->backend().isa() : active_isa()));
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext("types", types);
  benchmark::AddCustomContext("FMA peak", fmt::format("{:.1f} GFLOP/s", machine.flops / 1e9));
  if (machine.flops_bf16 != machine.flops)
    benchmark::AddCustomContext("bf16 dot peak", fmt::format("{:.1f} GFLOP/s", machine.flops_bf16 / 1e9));
  benchmark::AddCustomContext("bandwidth", fmt::format("{:.1f} GB/s", machine.bandwidth / 1e9));
  for (const bench::Library& library : libraries) {
    benchmark::AddCustomContext(library.name, library.kernels.empty() ? "absent" : library.version);
    if (library.kernels.empty()) fmt::print(stderr, "{}: {}\n", library.name, library.missing);
  }
}

DType parse_type(const std::string& t) { return t == "f32" ? DType::f32 : t == "f16" ? DType::f16 : DType::bf16; }

int run(int argc, char** argv) {
  CLI::App app(
      "Times the kernels of the table, and those of other libraries that CMake found (oneDNN, OpenBLAS, BLIS; on a "
      "GPU\n"
      "cuBLASLt, cuDNN), on the layers of real models. Layers called plain are a product or a convolution with a bias "
      "alone, as all of them have it. What is "
      "not\n"
      "listed here goes to Google Benchmark (--benchmark_filter=REGEX, --benchmark_out=FILE, --benchmark_min_time=S "
      "...).",
      "bench_kernels");
  std::vector<std::string> models = {"sd15"};
  std::string dtype = "f32", weights = "f32", device = "cpu", cache = "both";
  bench::LayerOptions options;
  int threads = default_threads();
  bool with_ref = false, only_plain = false, no_libraries = false, no_check = false;
  app.add_option("--models", models, "sd15 sd21 sdxl, a .sdw file or a diffusers folder")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--dtype", dtype, "type of activations")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--weights", weights, "stored type of weights")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--device", device, "whose kernels")->type_name("cpu|cuda|auto")->capture_default_str();
  app.add_option("--l2", cache, "on a GPU: what its cache holds before each run")
      ->check(CLI::IsMember({"cold", "warm", "both"}))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "2 with guidance")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--threads", threads, "threads")
      ->check(CLI::Range(1, int(ThreadPool::kMaxThreads)))
      ->capture_default_str();
  app.add_flag("--plain", only_plain, "only the plain layers, which the libraries run too");
  app.add_flag("--no-libraries", no_libraries, "only the kernel table");
  app.add_flag("--no-check", no_check, "do not hold the output against ref before timing");
  app.add_flag("--ref", with_ref, "also the reference kernels, which take minutes on large layers");
  bench::AlternateOptions alternating;
  alternating.rounds = 0;
  CLI::Option* rounds = app.add_option("--alternate", alternating.rounds,
                                       "run the kernel that a plan takes and the libraries in turn, so many rounds, in "
                                       "place of Google Benchmark; on the CPU")
                            ->check(CLI::Range(1, 10000));
  app.add_option("--filter", alternating.filter, "regular expression on the layers' names")->needs(rounds);
  app.add_option("--variants", alternating.variants,
                 "other kernels of ours; what follows is measured against the first")
      ->delimiter(',')
      ->needs(rounds);
  app.add_option("--out", alternating.out, "result file")->needs(rounds);
  app.allow_extras();
  int exit_code = 0;
  if (!parse_arguments(app, argc, argv, &exit_code)) return exit_code;
  std::vector<std::string> rest = app.remaining();
  std::vector<char*> arguments = {argv[0]};
  for (std::string& a : rest) arguments.push_back(a.data());
  int count = int(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 2;

  options.dtype = parse_type(dtype);
  options.weights = parse_type(weights);
  std::unique_ptr<bench::Gpu> gpu;
  if (choose_device(device).device == Device::cuda) gpu = bench::open_gpu(threads);
  if (gpu) options.isa = gpu->backend().isa();
  Layers layers;
  for (const std::string& model : models) {
    const std::string name = model.substr(model.find_last_of('/') + 1);
    bench::add_model_layers(*bench::open_model(model), name.substr(0, name.find('.')), options, layers);
  }
  Layers plain = bench::plain_layers(layers);
  if (only_plain) layers.clear();
  layers.merge(plain);

  ThreadPool pool(threads);
  std::span<const bench::Library> libraries;
  if (!no_libraries) libraries = gpu ? bench::gpu_libraries() : bench::libraries(threads);
  const bench::Machine machine = gpu ? measure_gpu(*gpu, libraries) : bench::measure_machine(pool);
  if (alternating.rounds > 0) {
    if (gpu) throw usage_error("--alternate is for the CPU: leave out --device");
    alternating.check = !no_check;
    alternating.types = "activations " + dtype + ", weights " + weights;
    return bench::alternate(layers, libraries, pool, machine, alternating) == 0 ? 0 : 1;
  }
  int wrong = 0;
  const Setup setup{pool, machine, !no_check, !no_libraries, &wrong};
  add_context(gpu.get(), machine, threads, "activations " + dtype + ", weights " + weights, libraries);
  for (const auto& entry : layers) {
    const std::string& name = entry.first;
    const Layer& layer = entry.second;
    for (const KernelDef* kernel : candidates(op_kind(layer.attrs), libraries)) {
      if (!runs_on(kernel->isa, options.isa) || (kernel->isa == Isa::baseline && !with_ref)) continue;
      if (kernel->reject(layer.bound())) continue;
      const std::string full =
          fmt::format("{}/{}{}", op_def(kernel->op).name, kernel->variant, name.substr(name.find('/')));
      if (gpu) {
        for (const bench::CacheState state_of : {bench::CacheState::cold, bench::CacheState::warm}) {
          const std::string word = state_of == bench::CacheState::cold ? "cold" : "warm";
          if (cache != "both" && cache != word) continue;
          benchmark::RegisterBenchmark(fmt::format("{}/{}", full, word).c_str(),
                                       [&layer, kernel, &setup, state_of, on = gpu.get()](benchmark::State& state) {
                                         run_layer_on(*on, state_of, state, layer, *kernel, setup);
                                       })
              ->UseManualTime()
              ->Unit(benchmark::kMicrosecond);
        }
        continue;
      }
      benchmark::RegisterBenchmark(
          full.c_str(), [&layer, kernel, &setup](benchmark::State& state) { run_layer(state, layer, *kernel, setup); })
          ->UseRealTime()
          ->Unit(benchmark::kMicrosecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  if (wrong == 0) return 0;
  fmt::print(stderr, "bench_kernels: {} outputs are not those of ref\n", wrong);
  return 1;
}

}  // namespace

int main(int argc, char** argv) { return darkroom::run_main("bench_kernels", argc, argv, run); }

// bench_kernels: every entry of the kernel table, and other libraries' beside them, on every layer of real models.
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <thread>

#include "bench/common/model.h"
#include "bench/kernels/layers.h"
#include "bench/kernels/libraries.h"
#include "bench/kernels/machine.h"
#include "bench/kernels/operands.h"
#include "tools/common/run_main.h"

namespace {

using namespace darkroom;
using bench::Layer;
using bench::Layers;

// Threads that another library left spinning shall not disturb the next measurement; then a run to wake the team, where that
// is cheap.
constexpr auto kSettle = std::chrono::milliseconds(120);
constexpr double kCheapFlops = 1e12;

struct Setup {
  ThreadPool& pool;
  const bench::Machine& machine;
  bool check, settle;
  int* wrong;
};

void run_layer(benchmark::State& state, const Layer& layer, const KernelDef& kernel, const Setup& setup) {
  bench::Operands operands(layer);
  operands.prepare(kernel, setup.pool);
  operands.launch(kernel, setup.pool);
  if (setup.check) {
    if (const std::string wrong = bench::compare_with_ref(operands, setup.pool); !wrong.empty()) {
      ++*setup.wrong;
      state.SkipWithError(wrong.c_str());
      return;
    }
  }
  if (setup.settle) std::this_thread::sleep_for(kSettle);
  if (layer.cost.flops < kCheapFlops) operands.launch(kernel, setup.pool);
  for (auto _ : state) operands.launch(kernel, setup.pool);
  const double runs = double(state.iterations());
  using benchmark::Counter;
  state.counters["GFLOP/s"] = Counter(layer.cost.flops * runs / 1e9, Counter::kIsRate);
  state.counters["GB/s"] = Counter(layer.cost.bytes * runs / 1e9, Counter::kIsRate);
  const double peak = layer.call.in[0].dtype == DType::bf16 ? setup.machine.flops_bf16 : setup.machine.flops;
  state.counters["%FMA"] = Counter(100 * layer.cost.flops * runs / peak, Counter::kIsRate);
  state.counters["%BW"] = Counter(100 * layer.cost.bytes * runs / setup.machine.bandwidth, Counter::kIsRate);
}

// The table's entries, then the libraries'.
std::vector<const KernelDef*> candidates(OpKind op, std::span<const bench::Library> libraries) {
  std::vector<const KernelDef*> all(kernels_of(op).begin(), kernels_of(op).end());
  for (const bench::Library& library : libraries)
    for (const KernelDef* kernel : library.kernels)
      if (kernel->op == op) all.push_back(kernel);
  return all;
}

DType parse_type(const std::string& t) { return t == "f32" ? DType::f32 : t == "f16" ? DType::f16 : DType::bf16; }

int run(int argc, char** argv) {
  CLI::App app(
      "Times the kernels of the table, and oneDNN's, OpenBLAS's and BLIS's where CMake found them, on the layers of "
      "real\n"
      "models. Layers called plain are a product or a convolution with a bias alone, as all of them have it. What is "
      "not\n"
      "listed here goes to Google Benchmark (--benchmark_filter=REGEX, --benchmark_out=FILE, --benchmark_min_time=S "
      "...).",
      "bench_kernels");
  std::vector<std::string> models = {"sd15"};
  std::string dtype = "f32", weights = "f32";
  bench::LayerOptions options;
  int threads = default_threads();
  bool with_ref = false, only_plain = false, no_libraries = false, no_check = false;
  app.add_option("--models", models, "sd15 sd21 sdxl, a .sdw file or a diffusers folder")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--dtype", dtype, "type of activations")->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
  app.add_option("--weights", weights, "stored type of weights")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "2 with guidance")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--threads", threads, "threads")
      ->check(CLI::Range(1, int(ThreadPool::kMaxThreads)))
      ->capture_default_str();
  app.add_flag("--plain", only_plain, "only the plain layers, which the libraries run too");
  app.add_flag("--no-libraries", no_libraries, "only the kernel table");
  app.add_flag("--no-check", no_check, "do not hold the output against ref before timing");
  app.add_flag("--ref", with_ref, "also the reference kernels, which take minutes on large layers");
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
  Layers layers;
  for (const std::string& model : models) {
    const std::string name = model.substr(model.find_last_of('/') + 1);
    bench::add_model_layers(*bench::open_model(model), name.substr(0, name.find('.')), options, layers);
  }
  Layers plain = bench::plain_layers(layers);
  if (only_plain) layers.clear();
  layers.merge(plain);

  ThreadPool pool(threads);
  const bench::Machine machine = bench::measure_machine(pool);
  int wrong = 0;
  const Setup setup{pool, machine, !no_check, !no_libraries, &wrong};
  benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("isa", isa_name(active_isa()));
  benchmark::AddCustomContext("threads", std::to_string(threads));
  benchmark::AddCustomContext("types", "activations " + dtype + ", weights " + weights);
  benchmark::AddCustomContext("FMA peak", fmt::format("{:.1f} GFLOP/s", machine.flops / 1e9));
  if (machine.flops_bf16 != machine.flops)
    benchmark::AddCustomContext("bf16 dot peak", fmt::format("{:.1f} GFLOP/s", machine.flops_bf16 / 1e9));
  benchmark::AddCustomContext("bandwidth", fmt::format("{:.1f} GB/s", machine.bandwidth / 1e9));
  std::span<const bench::Library> libraries;
  if (!no_libraries) libraries = bench::libraries(threads);
  for (const bench::Library& library : libraries) {
    benchmark::AddCustomContext(library.name, library.kernels.empty() ? "absent" : library.version);
    if (library.kernels.empty()) fmt::print(stderr, "{}: {}\n", library.name, library.missing);
  }
  for (const auto& entry : layers) {
    const std::string& name = entry.first;
    const Layer& layer = entry.second;
    for (const KernelDef* kernel : candidates(op_kind(layer.attrs), libraries)) {
      if (!runs_on(kernel->isa, active_isa()) || (kernel->isa == Isa::baseline && !with_ref)) continue;
      if (kernel->reject(layer.bound())) continue;
      const std::string full =
          fmt::format("{}/{}{}", op_def(kernel->op).name, kernel->variant, name.substr(name.find('/')));
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

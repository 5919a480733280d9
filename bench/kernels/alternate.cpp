#include "bench/kernels/alternate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>
#include <vector>

#include "bench/kernels/operands.h"
#include "kernels/core/cpu.h"
#include "kernels/core/error.h"
#include "runtime/select.h"

namespace darkroom::bench {

namespace {

using Clock = std::chrono::steady_clock;

// A library's threads spin for a while after its call: until they sleep.
constexpr auto kSettle = std::chrono::milliseconds(40);

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + ptrdiff_t(x.size() / 2), x.end());
  return x[x.size() / 2];
}

// One implementation of a layer, with memory of its own.
struct Runner {
  const KernelDef* kernel;
  bool library;
  std::unique_ptr<Operands> operands;
  std::vector<double> seconds, of_ours, of_peak;  // by round

  // Once to wake threads and caches, then timed.
  double time(ThreadPool& pool) {
    operands->launch(*kernel, pool);
    const auto begin = Clock::now();
    operands->launch(*kernel, pool);
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    if (library) std::this_thread::sleep_for(kSettle);
    return took;
  }
};

std::vector<Runner> runners_of(const Layer& layer, const std::vector<std::string>& variants,
                               std::span<const Library> libraries) {
  const KernelCall call = layer.bound();
  const OpKind op = op_kind(layer.attrs);
  std::vector<Runner> runners;
  const auto add = [&](const KernelDef* kernel, bool library) {
    runners.push_back({kernel, library, std::make_unique<Operands>(layer), {}, {}, {}});
  };
  if (variants.empty()) add(select_kernel(call, {}, "").kernel, false);
  for (const std::string& variant : variants)
    for (const KernelDef* kernel : kernels_of(op))
      if (kernel->variant == variant && runs_on(kernel->isa, active_isa()) && !kernel->reject(call)) add(kernel, false);
  if (runners.empty()) return runners;
  for (const Library& library : libraries)
    for (const KernelDef* kernel : library.kernels)
      if (kernel->op == op && !kernel->reject(call)) add(kernel, true);
  return runners;
}

std::string shares(const std::vector<double>& x) {
  std::vector<double> sorted = x;
  std::sort(sorted.begin(), sorted.end());
  return fmt::format("{:.2f} ({:.2f} to {:.2f})", median(x), sorted[sorted.size() / 4], sorted[sorted.size() * 3 / 4]);
}

void add_results(const std::string& name, const Layer& layer, const std::vector<Runner>& runners,
                 const Machine& machine, nlohmann::ordered_json& all) {
  for (const Runner& r : runners) {
    const double seconds = median(r.seconds);
    all.push_back({{"name", fmt::format("{}/{}{}/real_time", op_def(r.kernel->op).name, r.kernel->variant,
                                        name.substr(name.find('/')))},
                   {"run_type", "iteration"},
                   {"iterations", r.seconds.size()},
                   {"real_time", seconds * 1e6},
                   {"time_unit", "us"},
                   {"GFLOP/s", layer.cost.flops / seconds / 1e9},
                   {"GB/s", layer.cost.bytes / seconds / 1e9},
                   {"%FMA", 100 * median(r.of_peak)},
                   {"%BW", 100 * layer.cost.bytes / seconds / machine.bandwidth},
                   {"of_ours", median(r.of_ours)}});
  }
}

}  // namespace

int alternate(const Layers& layers, std::span<const Library> libraries, ThreadPool& pool, const Machine& machine,
              const AlternateOptions& options) {
  std::regex filter;
  try {
    filter = std::regex(options.filter);
  } catch (const std::regex_error& e) {
    throw usage_error("--filter '{}' is no regular expression: {}", options.filter, e.what());
  }
  // Now, not after an hour's measurements: whether there is a place for them. What lies there stays until they are complete.
  const std::string part = options.out + ".part";
  std::ofstream file;
  if (!options.out.empty()) file.open(part);
  if (!file) throw resource_error("{}: cannot be written", part);
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  std::vector<double> peaks;
  int wrong = 0;
  for (const auto& [name, layer] : layers) {
    if (!std::regex_search(name, filter)) continue;
    std::vector<Runner> runners = runners_of(layer, options.variants, libraries);
    if (runners.empty()) continue;
    for (Runner& r : runners) {
      r.operands->prepare(*r.kernel, pool);
      r.time(pool);
      if (!options.check) continue;
      const std::string error = compare_with_ref(*r.operands, pool);
      if (!error.empty()) ++wrong, fmt::print("{}: {}: {}\n", name, r.kernel->variant, error);
    }
    const DType type = layer.call.in[0].dtype == DType::f32 ? DType::f32 : DType::bf16;
    for (int round = 0; round < options.rounds; ++round) {
      double ours = 0;
      for (Runner& r : runners) {
        const double peak = peak_now(pool, type), took = r.time(pool);
        if (&r == &runners[0]) ours = took;
        r.seconds.push_back(took);
        r.of_ours.push_back(took / ours);
        r.of_peak.push_back(layer.cost.flops / took / peak);
        peaks.push_back(peak);
      }
    }
    fmt::print("{}: {} {:.3f} ms, of the peak {}", name, runners[0].kernel->variant, median(runners[0].seconds) * 1e3,
               shares(runners[0].of_peak));
    for (size_t i = 1; i < runners.size(); ++i)
      fmt::print("; {} {}", runners[i].kernel->variant, shares(runners[i].of_ours));
    fmt::print("\n");
    std::fflush(stdout);
    add_results(name, layer, runners, machine, results);
  }
  std::error_code error;
  if (peaks.empty()) {
    if (!options.out.empty()) std::filesystem::remove(part, error);
    const std::string kernels = fmt::format("{}", fmt::join(options.variants, ", "));
    throw usage_error("no layer that {}is found by --filter '{}'{}: --benchmark_list_tests=true shows them all",
                      kernels.empty() ? "" : "--variants " + kernels + " can run and ", options.filter,
                      kernels.empty() ? "" : " on this CPU");
  }
  if (options.out.empty()) return wrong;
  nlohmann::ordered_json context = {{"cpu", cpu_name()},
                                    {"isa", isa_name(active_isa())},
                                    {"threads", pool.size()},
                                    {"types", options.types},
                                    {"alternating rounds", options.rounds},
                                    {"FMA peak", fmt::format("{:.1f} GFLOP/s, the median", median(peaks) / 1e9)},
                                    {"bandwidth", fmt::format("{:.1f} GB/s", machine.bandwidth / 1e9)}};
  for (const Library& library : libraries) context[library.name] = library.kernels.empty() ? "absent" : library.version;
  file << nlohmann::ordered_json{{"context", context}, {"benchmarks", results}}.dump(1) << "\n";
  file.close();
  if (file) std::filesystem::rename(part, options.out, error);
  if (!file || error) throw resource_error("{}: cannot be written", options.out);
  return wrong;
}

}  // namespace darkroom::bench

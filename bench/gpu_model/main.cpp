// bench_gpu_model: what every step of a model's plans should take on a GPU, beside its floor. Needs no GPU.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "bench/common/model.h"
#include "bench/gpu_model/model.h"
#include "kernels/core/gpu_model.h"
#include "model/pipeline.h"
#include "tools/common/run_main.h"

namespace {

using namespace darkroom;

struct Row {
  int count = 0, grids = 0;
  double seconds = 0, floor = 0, flops = 0;
  std::string bound;
};

struct Table {
  std::map<std::string, Row> by_kernel, by_layer;
  Row all;

  void add(const Plan& plan) {
    for (const Step& step : plan.steps) {
      const KernelDef& kernel = *step.selection.kernel;
      const KernelCall call = plan.call(step);
      const bench::ModelledStep m = bench::model_step(kernel, call);
      const std::string grid(m.launches.empty() ? "" : m.launches.front().name);
      const std::string op(op_def(kernel.op).name);
      std::string shapes;
      const OpDef& def = op_def(kernel.op);
      for (int slot = 0; slot < def.inputs; ++slot)
        if (call.in[slot].present() && def.role(slot) == SlotRole::activation)
          shapes += fmt::format("{}{}", shapes.empty() ? "" : " + ", call.in[slot].shape.to_string());
      const std::string blocks = fmt::format("{} blocks", m.launches.empty() ? 0 : m.launches.front().blocks());
      for (Row* row : {&all, &by_kernel[fmt::format("{} | {}", op, grid)],
                       &by_layer[fmt::format("{} {} {} → {} | {}, {}", op, step.what, shapes,
                                             call.out.shape.to_string(), grid, blocks)]}) {
        ++row->count;
        row->grids += int(m.launches.size());
        row->seconds += m.seconds;
        row->floor += m.floor;
        row->flops += step.cost.flops;
        row->bound = m.bound;
      }
    }
  }
};

void print(const std::map<std::string, Row>& rows, const char* head, size_t most) {
  std::vector<std::pair<std::string, Row>> sorted(rows.begin(), rows.end());
  std::ranges::sort(sorted, [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  if (sorted.size() > most) sorted.resize(most);
  fmt::print("| {} | times | grids | modelled µs | floor µs | floor / modelled | TFLOP/s | bound by |\n", head);
  fmt::print("|---|---|---|---|---|---|---|---|---|\n");
  for (const auto& [name, r] : sorted)
    fmt::print("| {} | {} | {} | {:.1f} | {:.1f} | {:.0f} % | {:.0f} | {} |\n", name, r.count, r.grids, r.seconds * 1e6,
               r.floor * 1e6, 100 * r.floor / r.seconds, r.flops / r.seconds / 1e12, r.bound);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Models the time of every step of a model's plans on an H200 (kernels/core/gpu_model.h) and prints it as "
      "Markdown\n"
      "beside its floor. Nothing is run: it wants a build with CUDA, and no GPU.",
      "bench_gpu_model");
  std::string model = "sd15", dtype = "bf16";
  int size = 512;
  int64_t batch = 2;
  size_t layers = 25;
  app.add_option("-m,--model", model, "sd15 sd21 sdxl, a .sdw file or a diffusers folder")->capture_default_str();
  app.add_option("--size", size, "pixels, both ways")->check(CLI::Range(8, 16384))->capture_default_str();
  app.add_option("--batch", batch, "of the UNet: 2 with guidance")->check(CLI::Range(1, 64))->capture_default_str();
  app.add_option("--dtype", dtype, "type of activations")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--layers", layers, "how many of each graph's layers to print, the longest first")
      ->capture_default_str();
  int exit_code = 0;
  if (!parse_arguments(app, argc, argv, &exit_code)) return exit_code;

  PipelineOptions options;
  options.dtype = dtype == "f32" ? DType::f32 : dtype == "f16" ? DType::f16 : DType::bf16;
  options.session.device = Device::cuda;
  options.session.plan_for = Isa::sm90;
  Pipeline pipeline(bench::open_model(model), options);
  Request request;
  request.width = request.height = size;
  const ResolvedRequest resolved = pipeline.resolve(request);
  for (Graph& graph : pipeline.graphs(resolved.request.width, resolved.request.height, batch, 77)) {
    pipeline.session().fuse(graph);
    if (graph.name() == "unet") {
      const std::string_view once[] = {"context", "timestep", "text_embeds", "time_ids", "timestep_cond"};
      hoist(graph, once, "unet_once");
    }
    Table table;
    const Plan plan = pipeline.session().plan(std::move(graph));
    table.add(plan);
    fmt::print(
        "## {} {}x{} {}: {} steps, {} grids, modelled {:.3f} ms, floor {:.3f} ms (of each step alone; all FLOPs "
        "{:.3f} ms), {} MiB of activations\n\n",
        plan.graph.name(), size, size, dtype, table.all.count, table.all.grids, table.all.seconds * 1e3,
        table.all.floor * 1e3, table.all.flops / 790e12 * 1e3, plan.arena_bytes >> 20);
    print(table.by_kernel, "op | kernel", 100);
    fmt::print("\n");
    print(table.by_layer, "layer | kernel", layers);
    fmt::print("\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return darkroom::run_main("bench_gpu_model", argc, argv, run); }

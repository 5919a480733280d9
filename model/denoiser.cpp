#include "model/denoiser.h"

#include "kernels/core/error.h"

namespace darkroom {

namespace {

constexpr std::string_view kPromptInputs[] = {"context"};
constexpr std::string_view kScheduleInputs[] = {"timestep", "text_embeds", "time_ids", "timestep_cond"};
constexpr const char* kSchedule = "schedule";  // what a call needs of the schedule: a row of the hoisted graph's output

// Writes an input, where the graph has it.
void write_input(Program& program, std::string_view name, const std::vector<float>& data) {
  for (const Value& v : program.plan().graph.values())
    if (v.kind == ValueKind::input && v.name == name) program.write(name, data);
}

std::vector<float> repeated(const std::vector<float>& rows, size_t times) {
  std::vector<float> all;
  all.reserve(rows.size() * times);
  for (size_t i = 0; i < times; ++i) all.insert(all.end(), rows.begin(), rows.end());
  return all;
}

}  // namespace

Denoiser::Denoiser(Session& session, const UNetConfig& config, const UNetGraphOptions& options)
    : session_(session), config_(config), options_(options) {
  Graph graph = build_unet(config, options);
  std::vector<PassReport> passes = session.fuse(graph);
  Graph prompt = hoist(graph, kPromptInputs, "unet_prompt");
  // Planned in prepare(), for all calls at once.
  Graph schedule = hoist(graph, kScheduleInputs, "unet_schedule");
  join_handover(schedule, graph, kSchedule);
  step_ = session.compile(std::move(graph), passes);
  call_number_ = DeviceMemory(session.backend(), sizeof(int32_t), "the number of the call");
  if (prompt.nodes().empty()) return;
  prompt_ = session.compile(std::move(prompt), {});
  for (const GraphOutput& o : prompt_->plan().graph.outputs()) prompt_->bind(o.name, step_->memory(o.name));
}

// All calls as one batch: the rows of call i are [i·batch, (i+1)·batch). select_ then takes those of one call.
void Denoiser::plan_schedule(size_t calls) {
  if (calls == calls_) return;
  UNetGraphOptions all = options_;
  all.batch = int64_t(calls) * options_.batch;
  Graph graph = build_unet(config_, all);
  session_.fuse(graph);
  hoist(graph, kPromptInputs, "unet_prompt");
  Graph schedule = hoist(graph, kScheduleInputs, "unet_schedule");
  join_handover(schedule, graph, kSchedule);
  const int64_t width = schedule.shape(schedule.outputs()[0].value).channels();
  schedule_ = session_.compile(std::move(schedule), {});

  Graph select("unet_call");
  const ValueId table = select.input("table", {1, int64_t(calls), options_.batch * width}, DType::f32);
  select.output(kSchedule, select.add("select", SelectRowsAttrs{}, {table, select.input("call", {1}, DType::i32)}));
  select_ = session_.compile(std::move(select), {});
  select_->bind("table", schedule_->memory(kSchedule));
  select_->bind("call", call_number_.data());
  select_->bind(kSchedule, step_->memory(kSchedule));
  runner_ = session_.sequence(call());
  calls_ = calls;
}

void Denoiser::prepare(const Conditioning& given, const std::vector<double>& times) {
  if (prompt_) {
    write_input(*prompt_, "context", given.context);
    prompt_->run();
  }
  plan_schedule(times.size());
  std::vector<float> timestep;
  for (double t : times) timestep.insert(timestep.end(), size_t(options_.batch), float(t));
  write_input(*schedule_, "timestep", timestep);
  write_input(*schedule_, "text_embeds", repeated(given.text_embeds, times.size()));
  write_input(*schedule_, "time_ids", repeated(given.time_ids, times.size()));
  write_input(*schedule_, "timestep_cond", repeated(given.guidance, times.size()));
  schedule_->run();
}

bool Denoiser::run(size_t i, const std::atomic<bool>* cancel) {
  const int32_t number = int32_t(i);
  session_.backend().upload(call_number_.data(), &number, sizeof number);
  return runner_->run(cancel);
}

}  // namespace darkroom

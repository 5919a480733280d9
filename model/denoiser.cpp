#include "model/denoiser.h"

#include "kernels/core/error.h"

namespace darkroom {

namespace {

constexpr std::string_view kPromptInputs[] = {"context"};
constexpr std::string_view kScheduleInputs[] = {"timestep", "text_embeds", "time_ids", "timestep_cond"};
constexpr const char* kSchedule = "schedule";  // what a call needs of the schedule: rows of the hoisted graph's output

bool has_input(const Program& program, std::string_view name) {
  for (const Value& v : program.plan().graph.values())
    if (v.kind == ValueKind::input && v.name == name) return true;
  return false;
}

// Writes an input, where the graph has it.
void write_input(Program& program, std::string_view name, const std::vector<float>& data) {
  if (has_input(program, name)) program.write(name, data);
}

std::vector<float> repeated(const std::vector<float>& rows, size_t times) {
  std::vector<float> all;
  all.reserve(rows.size() * times);
  for (size_t i = 0; i < times; ++i) all.insert(all.end(), rows.begin(), rows.end());
  return all;
}

}  // namespace

Denoiser::Denoiser(Session& session, const UNetConfig& config, const UNetGraphOptions& options, int reuse)
    : session_(session), config_(config), options_(options), reuse_(size_t(reuse)) {
  std::vector<Graph*> readers;
  Graph shallow("none");
  std::vector<PassReport> shallow_passes;
  if (reuse_ > 1) {
    options_.deep_features = DeepFeatures::reuse;
    shallow = build_unet(config, options_);
    shallow_passes = session.fuse(shallow);
    hoist(shallow, kPromptInputs, "unet_prompt");
    hoist(shallow, kScheduleInputs, "unet_schedule");
    readers.push_back(&shallow);
    options_.deep_features = DeepFeatures::expose;
  }
  Graph graph = build_unet(config, options_);
  std::vector<PassReport> passes = session.fuse(graph);
  Graph prompt = hoist(graph, kPromptInputs, "unet_prompt");
  // Planned in prepare(), for all calls at once.
  Graph schedule = hoist(graph, kScheduleInputs, "unet_schedule");
  readers.push_back(&graph);
  join_handover(schedule, readers, kSchedule);
  step_ = session.compile(std::move(graph), std::move(passes));
  if (reuse_ > 1) {
    shallow_ = session.compile(std::move(shallow), std::move(shallow_passes));
    shallow_->bind("deep_features", step_->memory("deep_features"));
  }
  bind(step_->memory("sample"), step_->memory("noise_pred"));
  call_number_ = DeviceMemory(session.backend(), sizeof(int32_t), "the number of the call");
  if (prompt.nodes().empty()) return;
  prompt_ = session.compile(std::move(prompt), {});
  for (const GraphOutput& o : prompt_->plan().graph.outputs()) {
    prompt_->bind(o.name, step_->memory(o.name));
    if (shallow_ && has_input(*shallow_, o.name)) shallow_->bind(o.name, step_->memory(o.name));
  }
}

// All calls as one batch: the rows of call i are [i·rows, (i+1)·rows). select_ then takes those of one call.
void Denoiser::plan_schedule(size_t calls) {
  if (calls == calls_) return;
  const int64_t rows = timestep_rows(config_, options_);
  UNetGraphOptions all = options_;
  all.batch = int64_t(calls) * rows;
  all.shared_sample = false;
  Graph graph = build_unet(config_, all);
  session_.fuse(graph);
  hoist(graph, kPromptInputs, "unet_prompt");
  Graph schedule = hoist(graph, kScheduleInputs, "unet_schedule");
  join_handover(schedule, {}, kSchedule);
  const int64_t width = schedule.shape(schedule.outputs()[0].value).channels();
  schedule_ = session_.compile(std::move(schedule), {});

  Graph select("unet_call");
  const ValueId table = select.input("table", {1, int64_t(calls), rows * width}, DType::f32);
  select.output(kSchedule, select.add("select", SelectRowsAttrs{}, {table, select.input("call", {1}, DType::i32)}));
  select_ = session_.compile(std::move(select), {});
  select_->bind("table", schedule_->memory(kSchedule));
  select_->bind("call", call_number_.data());
  select_->bind(kSchedule, step_->memory(kSchedule));
  if (shallow_ && has_input(*shallow_, kSchedule)) shallow_->bind(kSchedule, step_->memory(kSchedule));
  runners_[0] = session_.sequence(call(false));
  if (shallow_) runners_[1] = session_.sequence(call(true));
  calls_ = calls;
}

void Denoiser::prepare(const Conditioning& given, const std::vector<double>& times) {
  if (prompt_) {
    write_input(*prompt_, "context", given.context);
    prompt_->run();
  }
  plan_schedule(times.size());
  std::vector<float> timestep;
  const size_t rows = size_t(timestep_rows(config_, options_));
  for (double t : times) timestep.insert(timestep.end(), rows, float(t));
  write_input(*schedule_, "timestep", timestep);
  write_input(*schedule_, "text_embeds", repeated(given.text_embeds, times.size()));
  write_input(*schedule_, "time_ids", repeated(given.time_ids, times.size()));
  write_input(*schedule_, "timestep_cond", repeated(given.guidance, times.size()));
  schedule_->run();
}

void Denoiser::bind(void* sample, void* out) {
  for (Program* program : {step_.get(), shallow_.get()}) {
    if (!program) continue;
    program->bind("sample", sample);
    program->bind("noise_pred", out);
  }
}

bool Denoiser::run(size_t i, const std::atomic<bool>* cancel) {
  const int32_t number = int32_t(i);
  session_.backend().upload(call_number_.data(), &number, sizeof number);
  return runners_[i % reuse_ != 0]->run(cancel);
}

}  // namespace darkroom

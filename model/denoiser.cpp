#include "model/denoiser.h"

#include "kernels/core/error.h"

namespace darkroom {

namespace {

constexpr std::string_view kPromptInputs[] = {"context"};
constexpr std::string_view kScheduleInputs[] = {"timestep", "text_embeds", "time_ids", "timestep_cond"};

size_t bytes_of(const Graph& graph, std::string_view name) {
  for (const Value& v : graph.values())
    if (v.kind == ValueKind::input && v.name == name) return size_t(v.shape.elements()) * dtype_size(v.dtype);
  return 0;
}

// Binds an f32 input, where the graph has it.
void bind_input(Program& program, const char* name, std::vector<float>& data) {
  const size_t bytes = bytes_of(program.plan().graph, name);
  if (bytes == 0) return;
  if (bytes != data.size() * sizeof(float))
    throw internal_error("{}: {} has {} numbers, {} were expected", program.plan().graph.name(), name, data.size(),
                         bytes / sizeof(float));
  program.bind(name, data.data());
}

std::vector<float> repeated(const std::vector<float>& rows, size_t times) {
  std::vector<float> all;
  all.reserve(rows.size() * times);
  for (size_t i = 0; i < times; ++i) all.insert(all.end(), rows.begin(), rows.end());
  return all;
}

}  // namespace

std::vector<Denoiser::Handover> Denoiser::handovers(const Graph& from, const Graph& to) const {
  std::vector<Handover> all;
  for (const GraphOutput& o : from.outputs()) {
    Handover h{o.name, bytes_of(to, o.name), shallow_ && bytes_of(shallow_->plan().graph, o.name) > 0, {}};
    h.data.resize(size_t(from.shape(o.value).elements()) * dtype_size(from.value(o.value).dtype));
    all.push_back(std::move(h));
  }
  return all;
}

Denoiser::Denoiser(Session& session, const UNetConfig& config, const UNetGraphOptions& options, int reuse)
    : session_(session), config_(config), options_(options), reuse_(size_t(reuse)) {
  if (reuse_ > 1) {
    UNetGraphOptions shallow = options_;
    shallow.deep_features = DeepFeatures::reuse;
    options_.deep_features = DeepFeatures::expose;
    Graph graph = build_unet(config, shallow);
    std::vector<PassReport> passes = session.fuse(graph);
    hoist(graph, kPromptInputs, "unet_prompt");
    hoist(graph, kScheduleInputs, "unet_schedule");
    deep_features_.resize(bytes_of(graph, "deep_features"));
    shallow_ = session.compile(std::move(graph), std::move(passes));
  }
  Graph graph = build_unet(config, options_);
  std::vector<PassReport> passes = session.fuse(graph);
  Graph prompt = hoist(graph, kPromptInputs, "unet_prompt");
  hoist(graph, kScheduleInputs, "unet_schedule");  // planned in prepare(), for all calls at once
  step_ = session.compile(std::move(graph), passes);
  if (shallow_) {
    step_->bind("deep_features", deep_features_.data());
    shallow_->bind("deep_features", deep_features_.data());
  }
  if (prompt.nodes().empty()) return;
  prompt_ = session.compile(std::move(prompt), {});
  from_prompt_ = handovers(prompt_->plan().graph, step_->plan().graph);
}

void Denoiser::prepare(const Conditioning& given, const std::vector<double>& times) {
  Conditioning c = given;
  if (prompt_) {
    bind_input(*prompt_, "context", c.context);
    for (Handover& h : from_prompt_) {
      prompt_->bind(h.name, h.data.data());
      step_->bind(h.name, h.data.data());
      if (h.shallow) shallow_->bind(h.name, h.data.data());
    }
    prompt_->run();
  }
  // All calls of the schedule as one batch: the rows of call i are [i·rows, (i+1)·rows).
  const size_t rows = size_t(timestep_rows(config_, options_));
  UNetGraphOptions all = options_;
  all.batch = int64_t(times.size() * rows);
  all.shared_sample = false;
  Graph graph = build_unet(config_, all);
  session_.fuse(graph);
  hoist(graph, kPromptInputs, "unet_prompt");
  Graph schedule = hoist(graph, kScheduleInputs, "unet_schedule");
  if (schedule.nodes().empty()) return;
  schedule_ = session_.compile(std::move(schedule), {});
  from_schedule_ = handovers(schedule_->plan().graph, step_->plan().graph);
  std::vector<float> timestep, text = repeated(c.text_embeds, times.size()), ids = repeated(c.time_ids, times.size()),
                               guidance = repeated(c.guidance, times.size());
  for (double t : times) timestep.insert(timestep.end(), rows, float(t));
  bind_input(*schedule_, "timestep", timestep);
  bind_input(*schedule_, "text_embeds", text);
  bind_input(*schedule_, "time_ids", ids);
  bind_input(*schedule_, "timestep_cond", guidance);
  for (Handover& h : from_schedule_) schedule_->bind(h.name, h.data.data());
  schedule_->run();
}

void Denoiser::bind(float* sample, float* out) {
  for (Program* program : {step_.get(), shallow_.get()}) {
    if (!program) continue;
    program->bind("sample", sample);
    program->bind("noise_pred", out);
  }
}

bool Denoiser::run(size_t i, const std::atomic<bool>* cancel) {
  const bool shallow = i % reuse_ != 0;
  Program& program = shallow ? *shallow_ : *step_;
  for (Handover& h : from_schedule_)
    if (!shallow || h.shallow) program.bind(h.name, h.data.data() + i * h.bytes_a_call);
  return program.run(cancel);
}

}  // namespace darkroom

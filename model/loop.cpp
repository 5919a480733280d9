#include "model/loop.h"

#include <algorithm>
#include <cstring>

#include "kernels/core/error.h"

namespace darkroom {

static_assert(kSlotX == kLoopLatents && kSlotModel == kLoopModel && kSlotNoise == kLoopNoise &&
              int(kSlots) == LoopCall::kMaxSlots);

namespace {

// Of [without, with] the prompt the second row.
Conditioning prompt_alone(const Conditioning& both) {
  const auto second = [](const std::vector<float>& rows) {
    return std::vector<float>(rows.begin() + std::ptrdiff_t(rows.size() / 2), rows.end());
  };
  return {second(both.context), second(both.text_embeds), second(both.time_ids), second(both.guidance)};
}

// Starts the graph of a loop's op with what all of them read.
std::pair<ValueId, ValueId> table_inputs(Graph& graph, size_t calls) {
  const ValueId table = graph.input("calls", {int64_t(calls), kLoopCallWords}, DType::i32);
  return {table, graph.input("call", {1}, DType::i32)};
}

}  // namespace

std::vector<int32_t> loop_calls(const LoopRequest& request) {
  const std::vector<SamplerStep>& steps = request.program->steps;
  std::vector<int32_t> words;
  uint32_t draw = request.first_draw;
  for (size_t s = 0; s < steps.size(); ++s) {
    const SamplerStep& step = steps[s];
    LoopCall call{};
    call.input_scale = float(step.input_scale);
    const bool guided = int(s) < request.guided_calls;
    call.guidance[0] = guided ? 1.0f - request.guidance : 1.0f;
    call.guidance[1] = guided ? request.guidance : 0.0f;
    // What a mask keeps joins at the level of the next call; at the end as it is.
    const bool last = s + 1 == steps.size();
    call.image_signal = last ? 1.0f : float(steps[s + 1].signal);
    call.image_noise = last ? 0.0f : float(steps[s + 1].noise);
    call.draw = step.draws && request.philox_seed ? int32_t(draw++) : -1;
    call.seed[0] = uint32_t(request.philox_seed.value_or(0));
    call.seed[1] = uint32_t(request.philox_seed.value_or(0) >> 32);
    call.updates = int32_t(step.updates.size());
    if (step.updates.size() > size_t(LoopCall::kMaxUpdates))
      throw internal_error("a sampler makes {} updates a call, {} is the most", step.updates.size(),
                           LoopCall::kMaxUpdates);
    for (size_t u = 0; u < step.updates.size(); ++u) {
      call.update[u].slot = step.updates[u].slot;
      for (size_t k = 0; k < size_t(kSlots); ++k) call.update[u].c[k] = float(step.updates[u].value.c[k]);
    }
    words.resize(words.size() + size_t(kLoopCallWords));
    std::memcpy(words.data() + words.size() - size_t(kLoopCallWords), &call, sizeof call);
  }
  return words;
}

Loop::Loop(Session& session, const UNetConfig& config, const UNetGraphOptions& options, int reuse)
    : session_(session),
      config_(config),
      options_(options),
      reuse_(reuse),
      channels_(config.out_channels),
      extra_channels_(config.in_channels - config.out_channels) {
  const size_t pixels = size_t(options.height * options.width);
  const auto memory = [&](size_t numbers, const char* what) {
    return Buffer{DeviceMemory(session.backend(), numbers * sizeof(float), what), numbers * sizeof(float)};
  };
  sample_ = memory(pixels * size_t(config.in_channels), "the network's input");
  out_ = memory(2 * pixels * size_t(config.out_channels), "the network's output");
}

// Memory stays where it is while its size does, so that what is recorded for one picture serves the next.
template <typename T>
void Loop::give(Buffer& buffer, const std::vector<T>& values) {
  const size_t bytes = values.size() * sizeof(T);
  if (bytes == 0) return;
  if (bytes != buffer.bytes) buffer = {DeviceMemory(session_.backend(), bytes, "the loop"), bytes};
  session_.backend().upload(buffer.data(), values.data(), bytes);
}

void Loop::plan(const LoopRequest& request) {
  const int slots = request.program->slots;
  const size_t total = request.program->steps.size();
  const bool masked = !request.keep.empty();
  if (input_ && slots == slot_count_ && total == total_ && masked == masked_) return;
  slot_count_ = slots;
  total_ = total;
  masked_ = masked;
  for (Phase* phase : {&alone_, &guided_}) {
    phase->runners = {};
    phase->sequence = {};
    phase->update = nullptr;
  }

  Graph graph("loop_input");
  const auto [calls, call] = table_inputs(graph, total);
  const ValueId state = graph.input("slots", {slots, options_.height, options_.width, channels_}, DType::f32);
  const ValueId extra = extra_channels_ > 0
                            ? graph.input("extra", {options_.height, options_.width, extra_channels_}, DType::f32)
                            : kNoValue;
  graph.output("sample", graph.add("input", LoopInputAttrs{1}, {calls, call, state, extra}));
  input_ = session_.compile(std::move(graph));
}

// Plans what the phase lacks, and computes its prompt's and schedule's part. Both phases are told all times, so that one
// number of the call serves both.
void Loop::prepare(Phase& phase, bool guided, const LoopRequest& request) {
  const int64_t batch = guided ? 2 : 1;
  if (!phase.denoiser) {
    UNetGraphOptions unet = options_;
    unet.batch = batch;
    unet.shared_sample = guided;
    phase.denoiser = std::make_unique<Denoiser>(session_, config_, unet, reuse_);
    phase.denoiser->bind(sample_.data(), out_.data());
    Graph graph("loop_advance");
    graph.output("next", graph.add("advance", LoopAdvanceAttrs{}, {graph.input("call", {1}, DType::i32)}, DType::i32));
    phase.advance = session_.compile(std::move(graph));
  }
  if (!phase.update) {
    const Shape map{options_.height, options_.width, channels_};
    Graph graph("loop_update");
    const auto [calls, call] = table_inputs(graph, total_);
    const ValueId model = graph.input("noise_pred", {batch, options_.height, options_.width, channels_}, DType::f32);
    const ValueId state = graph.input("slots", {slot_count_, options_.height, options_.width, channels_}, DType::f32);
    const auto optional = [&](const char* name) { return masked_ ? graph.input(name, map, DType::f32) : kNoValue; };
    const ValueId keep = optional("keep"), image = optional("image"), start = optional("start");
    graph.output("slots_out", graph.add("update", LoopUpdateAttrs{}, {calls, call, model, state, keep, image, start}));
    phase.update = session_.compile(std::move(graph));
  }
  std::vector<double> times;
  for (const SamplerStep& step : request.program->steps) times.push_back(step.timestep);
  const bool with_both = request.guided_calls > 0;
  phase.denoiser->prepare(guided || !with_both ? *request.conditioning : prompt_alone(*request.conditioning), times);

  Program& update = *phase.update;
  phase.advance->bind("call", call_.data());
  phase.advance->bind("next", call_.data());
  phase.denoiser->call(false)[0]->bind("call", call_.data());  // the loop's number, not the denoiser's own
  update.bind("call", call_.data());
  update.bind("calls", calls_.data());
  update.bind("noise_pred", out_.data());
  update.bind("slots", slots_.data());
  update.bind("slots_out", slots_.data());
  if (masked_) {
    update.bind("keep", keep_.data());
    update.bind("image", image_.data());
    update.bind("start", start_.data());
  }
  const std::array call = phase.denoiser->call(false);
  const std::array sequence{input_.get(), call[0], call[1], phase.update.get(), phase.advance.get()};
  if (sequence != phase.sequence) {
    phase.sequence = sequence;
    phase.runners[0] = session_.sequence(sequence);
    if (reuse_ > 1) {
      const std::array shallow = phase.denoiser->call(true);
      phase.runners[1] =
          session_.sequence(std::array{input_.get(), shallow[0], shallow[1], phase.update.get(), phase.advance.get()});
    }
  }
}

void Loop::write_slot(int slot, const std::vector<float>& values) {
  const size_t n = size_t(options_.height * options_.width * channels_);
  if (values.size() != n) throw internal_error("loop: a slot has {} numbers, {} were given", n, values.size());
  session_.backend().upload(slots_.data() + size_t(slot) * n * sizeof(float), values.data(), n * sizeof(float));
}

std::vector<float> Loop::read(int slot) {
  std::vector<float> values(size_t(options_.height * options_.width * channels_));
  const size_t bytes = values.size() * sizeof(float);
  session_.backend().download(values.data(), slots_.data() + size_t(slot) * bytes, bytes);
  return values;
}

void Loop::begin(const LoopRequest& request) {
  const size_t n = size_t(options_.height * options_.width * channels_);
  if (request.latents.size() != n || request.extra.size() != n / size_t(channels_) * size_t(extra_channels_))
    throw internal_error("loop: {} latents and {} further numbers do not fit", request.latents.size(),
                         request.extra.size());
  plan(request);
  std::vector<float> slots(size_t(slot_count_) * n, 0.0f);
  std::ranges::copy(request.latents, slots.begin() + std::ptrdiff_t(size_t(kSlotX) * n));
  give(slots_, slots);
  give(calls_, loop_calls(request));
  give(call_, std::vector<int32_t>{0});
  give(extra_, request.extra);
  give(keep_, request.keep);
  give(image_, request.image);
  give(start_, request.start);
  input_->bind("calls", calls_.data());
  input_->bind("call", call_.data());
  input_->bind("slots", slots_.data());
  input_->bind("sample", sample_.data());
  if (extra_channels_ > 0) input_->bind("extra", extra_.data());
  guided_calls_ = size_t(request.guided_calls);
  next_ = 0;
  if (guided_calls_ > 0) prepare(guided_, true, request);
  if (guided_calls_ < total_) prepare(alone_, false, request);
  // Recorded once all is planned: planning may have moved the arena.
  for (Phase* phase : {&guided_, &alone_})
    for (const std::unique_ptr<Runner>& runner : phase->runners)
      if (runner) runner->prepare();
}

bool Loop::run(const std::atomic<bool>* cancel) {
  const bool guided = next_ < guided_calls_;
  Phase& phase = guided ? guided_ : alone_;
  const size_t call = guided ? next_ : next_ - guided_calls_;  // of the phase: its first computes deep features
  ++next_;
  return phase.runners[call % size_t(reuse_) != 0]->run(cancel);
}

}  // namespace darkroom

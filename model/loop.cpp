#include "model/loop.h"

#include <bit>
#include <cstring>

#include "kernels/core/error.h"

namespace darkroom {

static_assert(kSlotX == kLoopLatents && kSlotModel == kLoopModel && kSlotNoise == kLoopNoise &&
              int(kSlots) == LoopCall::kMaxSlots);

std::vector<int32_t> loop_calls(const LoopRequest& request, int64_t batch) {
  const std::vector<SamplerStep>& steps = request.program->steps;
  std::vector<int32_t> words;
  uint32_t draw = request.first_draw;
  for (size_t s = 0; s < steps.size(); ++s) {
    const SamplerStep& step = steps[s];
    LoopCall call{};
    call.input_scale = float(step.input_scale);
    call.guidance[0] = batch == 2 ? 1.0f - request.guidance : 1.0f;
    call.guidance[1] = batch == 2 ? request.guidance : 0.0f;
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

Loop::Loop(Session& session, const UNetConfig& config, const UNetGraphOptions& options)
    : session_(session),
      options_(options),
      channels_(config.out_channels),
      extra_channels_(config.in_channels - config.out_channels),
      denoiser_(session, config, options) {
  Graph graph("loop_advance");
  graph.output("next", graph.add("advance", LoopAdvanceAttrs{}, {graph.input("call", {1}, DType::i32)}, DType::i32));
  advance_ = session.compile(std::move(graph));
  advance_->bind("call", denoiser_.call_number());
  advance_->bind("next", denoiser_.call_number());
}

void Loop::plan(const LoopRequest& request) {
  const int slots = request.program->slots;
  const size_t calls = request.program->steps.size();
  const bool masked = !request.keep.empty();
  const Shape map{options_.height, options_.width, channels_};
  const Shape all_slots{slots, options_.height, options_.width, channels_};
  if (update_ && slots == slot_count_ && calls == calls_ && masked == masked_) return;

  const auto start = [&](Graph& g) {
    const ValueId table = g.input("calls", {int64_t(calls), kLoopCallWords}, DType::i32);
    return std::pair(table, g.input("call", {1}, DType::i32));
  };
  Graph in("loop_input");
  const auto [in_calls, in_call] = start(in);
  const ValueId latents = in.input("slots", all_slots, DType::f32);
  const ValueId extra = extra_channels_ > 0
                            ? in.input("extra", {options_.height, options_.width, extra_channels_}, DType::f32)
                            : kNoValue;
  in.output("sample", in.add("input", LoopInputAttrs{options_.batch}, {in_calls, in_call, latents, extra}));

  Graph up("loop_update");
  const auto [up_calls, up_call] = start(up);
  const ValueId model =
      up.input("noise_pred", {options_.batch, options_.height, options_.width, channels_}, DType::f32);
  const ValueId state = up.input("slots", all_slots, DType::f32);
  const auto optional = [&](const char* name) { return masked ? up.input(name, map, DType::f32) : kNoValue; };
  const ValueId keep = optional("keep"), image = optional("image"), noise = optional("start");
  up.output("slots_out", up.add("update", LoopUpdateAttrs{}, {up_calls, up_call, model, state, keep, image, noise}));

  update_ = session_.compile(std::move(up));
  input_ = session_.compile(std::move(in));
  slots_ = static_cast<std::byte*>(update_->memory("slots"));
  update_->bind("slots_out", slots_);
  input_->bind("slots", slots_);
  input_->bind("calls", update_->memory("calls"));
  for (Program* program : {input_.get(), update_.get()}) program->bind("call", denoiser_.call_number());
  input_->bind("sample", denoiser_.step().memory("sample"));
  update_->bind("noise_pred", denoiser_.step().memory("noise_pred"));
  slot_count_ = slots;
  calls_ = calls;
  masked_ = masked;
}

void Loop::write(int slot, const std::vector<float>& values) {
  const size_t n = size_t(options_.height * options_.width * channels_);
  if (values.size() != n) throw internal_error("loop: a slot has {} numbers, {} were given", n, values.size());
  session_.backend().upload(slots_ + size_t(slot) * n * sizeof(float), values.data(), n * sizeof(float));
}

std::vector<float> Loop::read(int slot) {
  std::vector<float> values(size_t(options_.height * options_.width * channels_));
  const size_t bytes = values.size() * sizeof(float);
  session_.backend().download(values.data(), slots_ + size_t(slot) * bytes, bytes);
  return values;
}

void Loop::begin(const LoopRequest& request) {
  std::vector<double> times;
  for (const SamplerStep& step : request.program->steps) times.push_back(step.timestep);
  denoiser_.prepare(*request.conditioning, times);
  plan(request);
  const std::vector<float> zeros(request.latents.size());
  for (int slot = 0; slot < slot_count_; ++slot) write(slot, slot == kSlotX ? request.latents : zeros);
  update_->write("calls", loop_calls(request, options_.batch));
  if (extra_channels_ > 0) input_->write("extra", request.extra);
  if (masked_) {
    update_->write("keep", request.keep);
    update_->write("image", request.image);
    update_->write("start", request.start);
  }
  const int32_t first = 0;
  session_.backend().upload(denoiser_.call_number(), &first, sizeof first);
  const std::array call = denoiser_.call();
  const std::array sequence{input_.get(), call[0], call[1], update_.get(), advance_.get()};
  if (sequence == sequence_) return;
  sequence_ = sequence;
  runner_ = session_.sequence(sequence);
}

bool Loop::run(const std::atomic<bool>* cancel) { return runner_->run(cancel); }

}  // namespace darkroom

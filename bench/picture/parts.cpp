#include "bench/picture/parts.h"

#include <unistd.h>

#include <filesystem>

#include "kernels/core/error.h"
#include "model/clip.h"
#include "model/synthetic.h"
#include "model/vae.h"
#include "tools/common/image_io.h"

namespace darkroom::bench {

namespace {

constexpr int64_t kGuided = 2;
constexpr int64_t kTokens = 77;

// k/64 with k from −128 to 127, as the weights from a rule are made.
std::vector<float> numbers(const std::string& name, int64_t count) {
  std::vector<int32_t> k(static_cast<size_t>(count));
  synthetic_integers(name, 0, count, k.data());
  std::vector<float> x;
  x.reserve(k.size());
  for (int32_t i : k) x.push_back(float(i) / 64);
  return x;
}

nlohmann::json describe_plan(const Plan& plan, const std::vector<PassReport>& passes, size_t weight_bytes) {
  nlohmann::json kernels = nlohmann::json::object(), fused = nlohmann::json::object();
  for (const Step& step : plan.steps) {
    const KernelDef& kernel = *step.selection.kernel;
    const std::string name = fmt::format("{}:{}", op_def(kernel.op).name, kernel.variant);
    kernels[name] = kernels.value(name, 0) + 1;
  }
  for (const PassReport& pass : passes) fused[std::string(pass.name)] = pass.enabled ? pass.count : -1;
  const Cost cost = plan.total_cost();
  return {{"steps", plan.steps.size()},
          {"flops", cost.flops},
          {"bytes", cost.bytes},
          {"arena_bytes", plan.arena_bytes},
          {"lower_bound", plan.lower_bound},
          {"weight_bytes", weight_bytes},
          {"kernels", kernels},
          {"passes", fused}};
}

UNetConfig read_unet(const Checkpoint& c) {
  return parse_unet_config(c.required_text("unet/config.json"), c.where() + ": unet/config.json");
}
VaeConfig read_vae(const Checkpoint& c) {
  return parse_vae_config(c.required_text("vae/config.json"), c.where() + ": vae/config.json");
}

class TextPart : public Part {
 public:
  TextPart(std::unique_ptr<Checkpoint> checkpoint, const PartOptions& options)
      : checkpoint_(std::move(checkpoint)), session_(*checkpoint_, options.session) {
    const bool two = checkpoint_->has_component("text_encoder_2");
    for (const std::string component : {"text_encoder", "text_encoder_2"}) {
      if (!checkpoint_->has_component(component)) continue;
      const ClipTextConfig config = parse_clip_text_config(checkpoint_->required_text(component + "/config.json"),
                                                           checkpoint_->where() + ": " + component);
      ClipGraphOptions clip;
      clip.batch = kGuided;
      clip.dtype = options.dtype;
      clip.layers = two ? config.num_hidden_layers - 1 : -1;  // XL reads the state before the last
      clip.final_norm = !two;
      clip.pooled = two && config.with_projection;
      Encoder& e = encoders_.emplace_back();
      e.program = session_.compile(build_clip(config, component, clip));
      const Graph& graph = e.program->plan().graph;
      for (const Value& v : graph.values())
        if (v.kind == ValueKind::input) e.program->write(v.name, std::vector<int32_t>(size_t(v.shape.elements()), 1));
      for (const GraphOutput& o : graph.outputs())
        e.outputs.push_back({o.name, std::vector<float>(size_t(graph.shape(o.value).elements()))});
    }
  }
  void run() override {
    for (Encoder& e : encoders_) e.program->run();
    for (Encoder& e : encoders_)
      for (Output& o : e.outputs) e.program->read(o.name, o.numbers);
  }
  Session& session() override { return session_; }
  nlohmann::json plan() const override {
    return describe_plan(encoders_.back().program->plan(), encoders_.back().program->passes(), session_.weight_bytes());
  }

 private:
  struct Output {
    std::string name;
    std::vector<float> numbers;
  };
  struct Encoder {
    std::unique_ptr<Program> program;
    std::vector<Output> outputs;
  };
  std::unique_ptr<Checkpoint> checkpoint_;
  Session session_;
  std::vector<Encoder> encoders_;
};

class StepPart : public Part {
 public:
  StepPart(std::unique_ptr<Checkpoint> checkpoint, const PartOptions& options)
      : checkpoint_(std::move(checkpoint)), session_(*checkpoint_, options.session) {
    const UNetConfig config = read_unet(*checkpoint_);
    const int64_t side = options.size / read_vae(*checkpoint_).factor();
    UNetGraphOptions unet;
    unet.batch = kGuided;
    unet.height = unet.width = side;
    unet.tokens = kTokens;
    unet.dtype = options.dtype;
    unet.int8 = options.int8;
    unet.shared_sample = true;  // as guidance runs it
    denoiser_ = std::make_unique<Denoiser>(session_, config, unet);
    Conditioning c;
    c.context = numbers("@context", kGuided * kTokens * config.cross_attention_dim);
    if (config.text_time) {
      c.text_embeds = numbers(
          "@pooled", kGuided * (config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim));
      const float pixels = float(options.size);
      for (int64_t b = 0; b < kGuided; ++b)
        c.time_ids.insert(c.time_ids.end(), {pixels, pixels, 0.0f, 0.0f, pixels, pixels});
    }
    c.guidance.resize(size_t(kGuided * config.time_cond_proj_dim));
    denoiser_->prepare(c, {500.0});
    denoiser_->step().write("sample", numbers("@latent", side * side * config.in_channels));
    out_.resize(size_t(kGuided * side * side * config.out_channels));
  }
  void run() override {
    denoiser_->run(0);
    denoiser_->step().read("noise_pred", out_);
  }
  Session& session() override { return session_; }
  nlohmann::json plan() const override {
    return describe_plan(denoiser_->plan(), denoiser_->step().passes(), session_.weight_bytes());
  }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  Session session_;
  std::unique_ptr<Denoiser> denoiser_;
  std::vector<float> out_;
};

class DecodePart : public Part {
 public:
  DecodePart(std::unique_ptr<Checkpoint> checkpoint, const PartOptions& options)
      : checkpoint_(std::move(checkpoint)), session_(*checkpoint_, options.session) {
    const VaeConfig config = read_vae(*checkpoint_);
    const int64_t side = options.size / config.factor();
    program_ = session_.compile(build_vae_decoder(config, {1, side, side, options.dtype}));
    program_->write("z", numbers("@z", side * side * config.latent_channels));
    image_.resize(size_t(options.size) * size_t(options.size) * size_t(config.out_channels));
  }
  void run() override {
    program_->run();
    program_->read("image", image_);
  }
  Session& session() override { return session_; }
  nlohmann::json plan() const override {
    return describe_plan(program_->plan(), program_->passes(), session_.weight_bytes());
  }

 private:
  std::unique_ptr<Checkpoint> checkpoint_;
  Session session_;
  std::unique_ptr<Program> program_;
  std::vector<float> image_;
};

PipelineOptions pipeline_options(const PartOptions& options) {
  PipelineOptions o;
  o.dtype = options.dtype;
  o.int8 = options.int8;
  o.session = options.session;
  return o;
}

class PicturePart : public Part {
 public:
  PicturePart(std::unique_ptr<Checkpoint> checkpoint, const PartOptions& options)
      : pipeline_(std::move(checkpoint), pipeline_options(options)),
        file_(std::filesystem::temp_directory_path() / fmt::format("bench_picture.{}.png", getpid())) {
    Request request;
    request.prompt = "a red boat under a yellow moon";
    request.width = request.height = options.size;
    request.steps = options.steps;
    request.sampler = "euler";
    resolved_ = pipeline_.resolve(request);
  }
  ~PicturePart() override {
    std::error_code gone;
    std::filesystem::remove(file_, gone);
  }
  void run() override { write_png(file_.string(), *pipeline_.generate(*resolved_), ""); }
  Session& session() override { return pipeline_.session(); }

 private:
  Pipeline pipeline_;
  std::optional<ResolvedRequest> resolved_;
  std::filesystem::path file_;
};

}  // namespace

std::unique_ptr<Part> make_part(std::unique_ptr<Checkpoint> checkpoint, const PartOptions& options) {
  const int64_t factor = read_vae(*checkpoint).factor();
  if (options.size < factor || options.size % factor != 0)
    throw usage_error("--size {}: wants a multiple of {}", options.size, factor);
  if (options.part == "text") return std::make_unique<TextPart>(std::move(checkpoint), options);
  if (options.part == "step") return std::make_unique<StepPart>(std::move(checkpoint), options);
  if (options.part == "decode") return std::make_unique<DecodePart>(std::move(checkpoint), options);
  if (options.part == "picture") return std::make_unique<PicturePart>(std::move(checkpoint), options);
  throw usage_error("--part {}: there are text, step, decode and picture", options.part);
}

}  // namespace darkroom::bench

#include "model/pipeline.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "model/clip.h"
#include "model/taesd.h"
#include "model/tiles.h"
#include "model/vae.h"

namespace darkroom {

namespace {

// The refiner's scores for the negative prompt and the prompt.   Source: Podell et al., SDXL (2023), and its published pipeline.
constexpr float kBadAesthetic = 2.5f, kGoodAesthetic = 6.0f;

UNetConfig read_unet(const Checkpoint& c) {
  return parse_unet_config(c.required_text("unet/config.json"), c.where() + ": unet/config.json");
}
VaeConfig read_vae(const Checkpoint& c) {
  return parse_vae_config(c.required_text("vae/config.json"), c.where() + ": vae/config.json");
}

// The text of a special token in special_tokens_map.json or tokenizer_config.json: a string, or an object with its content.
std::optional<std::string> special_token(const std::optional<std::string>& text, const char* key) {
  if (!text) return std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains(key)) return std::nullopt;
  const nlohmann::json& token = json[key];
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token["content"].is_string())
    return token["content"].get<std::string>();
  return std::nullopt;
}

// Where the text encoder's pooled output is taken: at the largest of the model's own ids in old configs, else at the first end
// token.
int32_t pooled_index(const ClipTextConfig& config, int32_t own_ids, const std::vector<int32_t>& ids, int32_t end) {
  const auto own = [&](int32_t id) { return id < own_ids ? id : -1; };
  const auto at = config.eos_token_id == 2 ? std::ranges::max_element(ids, {}, own) : std::ranges::find(ids, end);
  return int32_t(at - ids.begin());
}

std::unique_ptr<Checkpoint> with_embeddings(std::unique_ptr<Checkpoint> checkpoint,
                                            const std::vector<TextualInversion>& embeddings) {
  if (embeddings.empty()) return checkpoint;
  return std::make_unique<LearnedCheckpoint>(std::move(checkpoint), embeddings);
}

// LCM: the guidance scale as sinusoids.   Source: Luo et al. (2023), after Meng et al. (2023).
std::vector<float> guidance_embedding(float cfg_scale, int64_t dim) {
  std::vector<float> e(size_t(dim), 0.0f);
  const int64_t half = dim / 2;
  const double w = (double(cfg_scale) - 1) * 1000;
  for (int64_t i = 0; i < half; ++i) {
    const double angle = w * std::exp(-std::log(10000.0) * double(i) / double(half - 1));
    e[size_t(i)] = float(std::sin(angle));
    e[size_t(half + i)] = float(std::cos(angle));
  }
  return e;
}

// Noise comes in the order C H W, as the libraries draw it; latents lie as H W C.
void draw(NoiseSource& source, int64_t channels, int64_t pixels, std::vector<float>& planar, std::vector<float>& out) {
  source.normal(planar.data(), size_t(channels * pixels));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t p = 0; p < pixels; ++p) out[size_t(p * channels + c)] = planar[size_t(c * pixels + p)];
}

}  // namespace

DType parse_dtype(std::string_view name) {
  for (const DType t : {DType::f32, DType::bf16, DType::f16})
    if (name == dtype_name(t)) return t;
  throw usage_error("--dtype {}: there are f32, bf16 and f16", name);
}

Pipeline::Pipeline(std::unique_ptr<Checkpoint> checkpoint, PipelineOptions options)
    : checkpoint_(with_embeddings(std::move(checkpoint), options.embeddings)),
      options_(std::move(options)),
      unet_(read_unet(*checkpoint_)),
      vae_(read_vae(*checkpoint_)),
      session_(*checkpoint_, options_.session) {
  if (options_.dtype == DType::f16 && session_.backend().device() == Device::cpu)
    throw usage_error("--dtype f16: the CPU computes in f32 and bf16; f16 is for --device cuda");
  const std::string& where = checkpoint_->where();
  if (const auto text = checkpoint_->text("scheduler/scheduler_config.json"))
    scheduler_ = parse_scheduler_config(*text, where + ": scheduler/scheduler_config.json");
  if (const auto text = checkpoint_->text("generation_config.json"))
    generation_ = parse_generation_config(*text, where + ": generation_config.json");
  if (checkpoint_->has_component("text_encoder")) load_text_encoder("text_encoder", "tokenizer");
  if (checkpoint_->has_component("text_encoder_2")) load_text_encoder("text_encoder_2", "tokenizer_2");
  int64_t width = 0;
  for (const TextEncoder& e : encoders_) width += e.config.hidden_size;
  if (width != unet_.cross_attention_dim)
    throw file_error("{}: the text encoders make {} numbers a token, the UNet wants {}", where, width,
                     unet_.cross_attention_dim);
  if (vae_.latent_channels != unet_.out_channels)
    throw file_error("{}: the autoencoder has {} latent channels, the UNet makes {}", where, vae_.latent_channels,
                     unet_.out_channels);
  if (unet_.in_channels != unet_.out_channels && unet_.in_channels != 2 * unet_.out_channels + 1)
    throw file_error("{}: a UNet that reads {} channels is not implemented", where, unet_.in_channels);
  if (const auto index = checkpoint_->text("model_index.json")) {
    const nlohmann::json json = nlohmann::json::parse(*index, nullptr, false);
    zeros_for_no_negative_ = json.is_object() && json.value("force_zeros_for_empty_prompt", false);
  }
}

void Pipeline::load_text_encoder(const std::string& component, const std::string& folder) {
  const Checkpoint& c = *checkpoint_;
  const std::string config = component + "/config.json";
  const std::optional<std::string> vocab = c.text(folder + "/vocab.json");
  Tokenizer tokenizer(c.required_text(folder + "/merges.txt"),
                      vocab ? std::optional<std::string_view>(*vocab) : std::nullopt, c.where() + ": " + folder);
  std::optional<std::string> pad = special_token(c.text(folder + "/special_tokens_map.json"), "pad_token");
  if (!pad) pad = special_token(c.text(folder + "/tokenizer_config.json"), "pad_token");
  int32_t pad_id = tokenizer.end_id();
  if (pad) {
    tokenizer.add_special(*pad);
    pad_id = tokenizer.id_of(*pad);
  }
  ClipTextConfig parsed = parse_clip_text_config(c.required_text(config), c.where() + ": " + config);
  if (int64_t(tokenizer.vocabulary_size()) > parsed.vocab_size)
    throw file_error("{}: {} has {} entries, {} embeds {}", c.where(), folder, tokenizer.vocabulary_size(), component,
                     parsed.vocab_size);
  const int32_t own_ids = int32_t(parsed.vocab_size);
  for (const LearnedWord& w : learned_words(options_.embeddings, component, own_ids, parsed.hidden_size)) {
    const int64_t count = w.vectors->count, room = parsed.max_position_embeddings - 2;
    if (count > room) throw file_error("the word {} has {} vectors, a prompt has room for {}", w.word, count, room);
    tokenizer.add_word(w.word, w.first, int32_t(count));
    parsed.vocab_size += count;
  }
  encoders_.push_back({component, parsed, own_ids, std::move(tokenizer), pad_id, nullptr, -2, {}});
}

ResolvedRequest Pipeline::resolve(const Request& given) const {
  ResolvedRequest r{given, scheduler_, {}, {}};
  Request& q = r.request;
  const int unit = size_unit();
  if (q.width == 0) q.width = q.image ? q.image->width : native_size();
  if (q.height == 0) q.height = q.image ? q.image->height : native_size();
  for (const auto& [size, name] : {std::pair(q.width, "width"), std::pair(q.height, "height")}) {
    if (size < unit || size > 16384) throw usage_error("--{} {}: wants {} to 16384 pixels", name, size, unit);
    if (size % unit != 0)
      throw usage_error("--{} {}: is no multiple of {}; {} and {} are", name, size, unit, size / unit * unit,
                        (size / unit + 1) * unit);
  }
  r.sampler =
      q.sampler.empty() ? sampler_of_class(scheduler_) : find_sampler(q.sampler, q.schedule ? nullptr : &q.schedule);
  const bool consistency = r.sampler == "lcm" || r.sampler == "tcd";
  if (q.steps == 0) q.steps = consistency ? 4 : int(generation_.num_inference_steps);
  if (!q.cfg_scale) q.cfg_scale = consistency ? 1.0f : generation_.guidance_scale;
  if (!(*q.cfg_scale >= 1 && *q.cfg_scale <= 100)) throw usage_error("--cfg-scale {}: wants 1 to 100", *q.cfg_scale);
  if (q.eta && !(*q.eta >= 0 && *q.eta <= 1)) throw usage_error("--eta {}: wants 0 to 1", *q.eta);
  int64_t layers = encoders_[0].config.num_hidden_layers;
  for (const TextEncoder& e : encoders_) layers = std::min(layers, e.config.num_hidden_layers);
  if (!(q.guided_part >= 0 && q.guided_part <= 1)) throw usage_error("--guided-part {}: wants 0 to 1", q.guided_part);
  if (q.reuse_deep < 1 || q.reuse_deep > 100) throw usage_error("--reuse-deep {}: wants 1 to 100", q.reuse_deep);
  if (q.clip_skip < 0 || q.clip_skip > layers) throw usage_error("--clip-skip {}: wants 1 to {}", q.clip_skip, layers);
  if (!q.mask.empty() && !q.image) throw usage_error("--mask: wants an image to keep the rest of: -i FILE");
  if (q.image && !vae_.has_encoder())
    throw usage_error(
        "-i: this model's autoencoder is a TAESD's decoder alone: name the encoder's file with --vae too");
  if (q.image && (q.image->width != q.width || q.image->height != q.height))
    throw internal_error("the image is {}x{}, the request {}x{}", q.image->width, q.image->height, q.width, q.height);
  if (unet_.in_channels != unet_.out_channels && (!q.image || q.mask.empty()))
    throw usage_error("this model paints into pictures: it wants -i IMAGE and --mask MASK");

  SamplerOptions options{.sampler = std::string(r.sampler),
                         .steps = q.steps,
                         .begin = 0,
                         .schedule = q.schedule,
                         .spacing = q.spacing,
                         .eta = q.eta};
  if (q.image) {
    if (!(q.strength > 0 && q.strength <= 1))
      throw usage_error("--strength {}: wants more than 0, at most 1", q.strength);
    options.begin = std::clamp(q.steps - int(float(q.steps) * q.strength), 0, q.steps - 1);
  }
  r.program = make_program(scheduler_, options);
  return r;
}

size_t Pipeline::chunk_count(const std::string& prompt) const {
  size_t n = 1;
  for (const TextEncoder& e : encoders_)
    n = std::max(n, tokenize_prompt(e.tokenizer, prompt, e.pad_id, int(e.config.max_position_embeddings)).size());
  return n;
}

Pipeline::EncodedPrompt Pipeline::encode_prompt(const std::string& prompt, int clip_skip, size_t count) {
  EncodedPrompt result;
  const size_t width = size_t(unet_.cross_attention_dim);
  size_t column = 0;
  for (TextEncoder& e : encoders_) {
    const int length = int(e.config.max_position_embeddings);
    const size_t hidden = size_t(e.config.hidden_size);
    std::vector<PromptChunk> chunks = tokenize_prompt(e.tokenizer, prompt, e.pad_id, length);
    while (chunks.size() < count) chunks.push_back(empty_chunk(e.tokenizer, e.pad_id, length));
    // XL reads the state before the last without the final norm; the others the last, normed.
    const int64_t skip = clip_skip > 0 ? clip_skip - 1 : is_xl() ? 1 : 0;
    const int64_t layers = e.config.num_hidden_layers - skip;
    const bool pooled = is_xl() && e.config.with_projection;
    if (!e.program || e.layers != layers) {
      ClipGraphOptions options;
      options.tokens = length;
      options.layers = layers;
      options.final_norm = !is_xl();
      options.pooled = pooled;
      options.dtype = options_.dtype;
      e.program = session_.compile(build_clip(e.config, e.component, options));
      e.layers = layers;
      e.hidden.resize(size_t(length) * hidden);
    }
    result.tokens = int64_t(count) * length;
    result.context.resize(size_t(result.tokens) * width);
    for (size_t k = 0; k < chunks.size(); ++k) {
      e.program->write("input_ids", chunks[k].ids);
      if (pooled)
        e.program->write("eos_index",
                         std::vector{pooled_index(e.config, e.own_ids, chunks[k].ids, e.tokenizer.end_id())});
      e.program->run();
      e.program->read("hidden", e.hidden);
      apply_weights(chunks[k], e.hidden.data(), hidden);
      for (size_t t = 0; t < size_t(length); ++t)
        std::copy_n(e.hidden.begin() + std::ptrdiff_t(t * hidden), hidden,
                    result.context.begin() + std::ptrdiff_t((k * size_t(length) + t) * width + column));
      if (pooled && k == 0) {
        result.pooled.resize(size_t(e.config.projection_dim));
        e.program->read("text_embeds", result.pooled);
      }
    }
    column += hidden;
  }
  return result;
}

// Rows: [without, with] the prompt where guided, else the prompt alone.
Conditioning Pipeline::make_conditioning(const Request& q, bool guided, int64_t* tokens) {
  const std::string negative = q.negative_prompt.value_or("");
  const size_t count = std::max(chunk_count(q.prompt), guided ? chunk_count(negative) : 1);
  Conditioning c;
  const auto append = [&](const EncodedPrompt& p) {
    c.context.insert(c.context.end(), p.context.begin(), p.context.end());
    c.text_embeds.insert(c.text_embeds.end(), p.pooled.begin(), p.pooled.end());
    *tokens = p.tokens;
  };
  if (guided) {
    EncodedPrompt p = encode_prompt(negative, q.clip_skip, count);
    if (!q.negative_prompt && zeros_for_no_negative_) {
      std::ranges::fill(p.context, 0.0f);
      std::ranges::fill(p.pooled, 0.0f);
    }
    append(p);
  }
  append(encode_prompt(q.prompt, q.clip_skip, count));
  for (int row = 0; row < (guided ? 2 : 1); ++row) {
    if (is_xl()) {
      const float h = float(q.height), w = float(q.width);
      c.time_ids.insert(c.time_ids.end(), {h, w, 0.0f, 0.0f});
      if (time_id_count(unet_) == 6)
        c.time_ids.insert(c.time_ids.end(), {h, w});
      else
        c.time_ids.push_back(guided && row == 0 ? kBadAesthetic : kGoodAesthetic);
    }
    if (unet_.time_cond_proj_dim > 0) {
      const std::vector<float> e = guidance_embedding(*q.cfg_scale, unet_.time_cond_proj_dim);
      c.guidance.insert(c.guidance.end(), e.begin(), e.end());
    }
  }
  return c;
}

Loop& Pipeline::loop(const UNetGraphOptions& options, int reuse) {
  if (loop_ && loop_->options() == options && loop_->reuse() == reuse) return *loop_;
  check_memory(options);
  loop_ = std::make_unique<Loop>(session_, unet_, options, reuse);
  return *loop_;
}

std::optional<std::vector<float>> Pipeline::encode_image(const Image& image, NoiseSource& noise,
                                                         const std::atomic<bool>* cancel) {
  const VaeGraphOptions options{1, image.height, image.width, options_.dtype};
  const Graph* planned = encoder_ ? &encoder_->plan().graph : nullptr;
  if (!planned || !(planned->shape(0) == Shape{1, image.height, image.width, vae_.in_channels}))
    encoder_ = session_.compile(build_vae_encoder(vae_, options));
  std::vector<float> pixels(image.pixels.size());
  for (size_t i = 0; i < pixels.size(); ++i)
    pixels[i] = vae_.tiny() ? float(image.pixels[i]) / 255.0f : float(image.pixels[i]) / 127.5f - 1.0f;
  const int64_t channels = vae_.latent_channels,
                count = int64_t(image.width / size_unit()) * (image.height / size_unit());
  std::vector<float> moments(size_t(count * 2 * channels)), planar(size_t(count * channels)), epsilon(planar.size()),
      latents(planar.size());
  encoder_->write("image", pixels);
  if (!encoder_->run(cancel)) return std::nullopt;
  if (vae_.tiny()) {
    encoder_->read("latents", latents);
    for (float& x : latents) x *= vae_.scaling_factor;
    return latents;
  }
  encoder_->read("moments", moments);
  draw(noise, channels, count, planar, epsilon);
  for (int64_t p = 0; p < count; ++p)
    for (int64_t k = 0; k < channels; ++k) {
      const float mean = moments[size_t(p * 2 * channels + k)];
      const float logvar = std::clamp(moments[size_t(p * 2 * channels + channels + k)], -30.0f, 20.0f);
      latents[size_t(p * channels + k)] =
          (mean + std::exp(0.5f * logvar) * epsilon[size_t(p * channels + k)]) * vae_.scaling_factor;
    }
  return latents;
}

std::optional<Image> Pipeline::decode(const std::vector<float>& latents, int64_t height, int64_t width,
                                      const std::atomic<bool>* cancel) {
  const Graph* planned = decoder_ ? &decoder_->plan().graph : nullptr;
  if (!planned || !(planned->shape(0) == Shape{1, height, width, vae_.latent_channels}))
    decoder_ = session_.compile(decoder_graph(height, width, options_.dtype));
  std::vector<float> z(latents.size());
  for (size_t i = 0; i < z.size(); ++i) {
    z[i] = latents[i] / vae_.scaling_factor;
    if (vae_.tiny()) z[i] = clamp_taesd_latent(z[i]);
  }
  Image image{int(width * size_unit()), int(height * size_unit()), {}};
  decoder_->write("z", z);
  if (!decoder_->run(cancel)) return std::nullopt;
  image.pixels.resize(size_t(image.width) * size_t(image.height) * 3);
  decoder_->read("rgb", image.pixels);
  return image;
}

// The decoder, and its picture as 8-bit pixels: output "rgb".
Graph Pipeline::decoder_graph(int64_t height, int64_t width, DType dtype) const {
  Graph graph = build_vae_decoder(vae_, {1, height, width, dtype});
  const ValueId image = graph.outputs()[0].value;
  graph.mutable_outputs().clear();
  const ToRgbAttrs range = vae_.tiny() ? ToRgbAttrs{1.0f, 0.0f} : ToRgbAttrs{};
  graph.output("rgb", graph.add("to_rgb", range, {image}, DType::u8));
  return graph;
}

std::optional<Image> Pipeline::decode_tiles(const std::vector<float>& latents, int64_t height, int64_t width,
                                            const std::atomic<bool>* cancel) {
  const int64_t side = options_.decode_tile > 0 ? options_.decode_tile / size_unit() : std::max(height, width);
  if (height <= side && width <= side) return decode(latents, height, width, cancel);
  const TileAxis rows = tile_axis(height, side), columns = tile_axis(width, side);
  TileBlender blender(rows, columns, size_unit());
  const int64_t channels = vae_.latent_channels;
  std::vector<float> tile;
  for (size_t r = 0; r < rows.begin.size(); ++r)
    for (size_t c = 0; c < columns.begin.size(); ++c) {
      tile.clear();
      for (int64_t y = 0; y < rows.length; ++y) {
        const auto from = latents.begin() + ((rows.begin[r] + y) * width + columns.begin[c]) * channels;
        tile.insert(tile.end(), from, from + columns.length * channels);
      }
      const std::optional<Image> image = decode(tile, rows.length, columns.length, cancel);
      if (!image) return std::nullopt;
      blender.add(r, c, image->pixels);
    }
  return Image{int(blender.width()), int(blender.height()), blender.finish()};
}

std::optional<Image> Pipeline::generate(const ResolvedRequest& resolved, const ProgressCallback& progress,
                                        const std::atomic<bool>* cancel) {
  const Request& q = resolved.request;
  const SamplerProgram& program = resolved.program;
  const int64_t H = q.height / size_unit(), W = q.width / size_unit(), C = vae_.latent_channels, pixels = H * W;
  const size_t n = size_t(pixels * C);
  const float cfg = *q.cfg_scale;
  const bool guided = cfg != 1.0f && unet_.time_cond_proj_dim == 0 && q.guided_part > 0;
  const int total = int(program.steps.size());
  const int64_t batch = guided ? 2 : 1;

  NoiseSource source(q.rng, q.seed);
  std::vector<float> planar(n), noise(n), init;
  if (q.image) {
    std::optional<std::vector<float>> encoded = encode_image(*q.image, source, cancel);
    if (!encoded) return std::nullopt;
    init = std::move(*encoded);
  }
  int64_t tokens = 0;
  const Conditioning conditioning = make_conditioning(q, guided, &tokens);

  // The mask at the latents' size, and what an inpainting UNet reads beside the latents.
  std::vector<float> keep, extra;
  if (!q.mask.empty()) {
    for (int64_t y = 0; y < H; ++y)
      for (int64_t x = 0; x < W; ++x)
        keep.insert(keep.end(), size_t(C),
                    q.mask[size_t(y * size_unit() * q.width + x * size_unit())] >= 128 ? 0.0f : 1.0f);
    if (unet_.in_channels > C) {
      Image hidden = *q.image;
      for (size_t i = 0; i < hidden.pixels.size(); ++i)
        if (q.mask[i / 3] >= 128) hidden.pixels[i] = 128;
      NoiseSource apart(q.rng, q.seed);
      std::optional<std::vector<float>> encoded = encode_image(hidden, apart, cancel);
      if (!encoded) return std::nullopt;
      for (int64_t p = 0; p < pixels; ++p) {
        extra.push_back(1.0f - keep[size_t(p * C)]);
        extra.insert(extra.end(), encoded->begin() + p * C, encoded->begin() + (p + 1) * C);
      }
    }
  }

  draw(source, C, pixels, planar, noise);
  LoopRequest loop_request{.program = &program,
                           .conditioning = &conditioning,
                           .guided_calls = guided ? int(std::ceil(q.guided_part * float(total))) : 0,
                           .guidance = cfg,
                           .latents = std::vector<float>(n),
                           .extra = std::move(extra),
                           .keep = {},
                           .image = {},
                           .start = {},
                           .philox_seed = {},
                           .first_draw = source.draws()};
  for (size_t i = 0; i < n; ++i)
    loop_request.latents[i] = q.image ? float(program.image_signal) * init[i] + float(program.image_noise) * noise[i]
                                      : float(program.init_noise_sigma) * noise[i];
  if (q.rng == RngKind::cuda) loop_request.philox_seed = q.seed;
  if (!keep.empty() && loop_request.extra.empty()) {
    loop_request.keep = std::move(keep);
    loop_request.image = std::move(init);
    loop_request.start = noise;
  }
  Loop& unet = loop({batch, H, W, tokens, options_.dtype, options_.int8}, q.reuse_deep);
  unet.begin(loop_request);

  // From here to the last step nothing allocates.
  for (int s = 0; s < total; ++s) {
    if (program.steps[size_t(s)].draws && !loop_request.philox_seed) {
      draw(source, C, pixels, planar, noise);
      unet.write_noise(noise);
    }
    if (!unet.run(cancel)) return std::nullopt;
    if (progress) progress(s + 1, total);
  }
  return decode_tiles(unet.read(kSlotX), H, W, cancel);
}

// What every picture runs: text encoders, UNet, decoder.
std::vector<Graph> Pipeline::picture_graphs(int width, int height, int64_t batch, int64_t tokens, DType dtype) const {
  std::vector<Graph> all;
  for (const TextEncoder& e : encoders_) {
    ClipGraphOptions options;
    options.tokens = e.config.max_position_embeddings;
    options.pooled = is_xl() && e.config.with_projection;
    options.dtype = dtype;
    all.push_back(build_clip(e.config, e.component, options));
  }
  const int64_t H = height / size_unit(), W = width / size_unit();
  all.push_back(build_unet(unet_, {batch, H, W, tokens, dtype, options_.int8, /*shared_sample=*/true}));
  all.push_back(decoder_graph(H, W, dtype));
  return all;
}

std::vector<Graph> Pipeline::graphs(int width, int height, int64_t batch, int64_t tokens) const {
  std::vector<Graph> all = picture_graphs(width, height, batch, tokens, options_.dtype);
  if (vae_.has_encoder()) all.push_back(build_vae_encoder(vae_, {1, height, width, options_.dtype}));
  return all;
}

MemoryNeed Pipeline::memory_need(const UNetGraphOptions& o) const {
  std::vector<Plan> plans;
  const int width = int(o.width) * size_unit(), height = int(o.height) * size_unit();
  for (Graph& graph : picture_graphs(width, height, o.batch, o.tokens, o.dtype)) {
    session_.fuse(graph);
    plans.push_back(session_.plan(std::move(graph)));
  }
  std::vector<const Plan*> pointers;
  pointers.reserve(plans.size());
  for (const Plan& plan : plans) pointers.push_back(&plan);
  return session_.memory_need(pointers);
}

// Before the first step of a size: throws resource_error where the device has not the memory, saying what is needed, what
// there is, and what would fit.
void Pipeline::check_memory(const UNetGraphOptions& o) const {
  const std::optional<size_t> free = session_.backend().free_memory();
  if (!free) return;
  const MemoryNeed need = memory_need(o);
  if (need.total() <= *free) return;
  const auto mib = [](size_t bytes) { return (bytes + (size_t(1) << 20) - 1) >> 20; };
  std::string fits = "nothing smaller fits either: use --device cpu";
  for (const int64_t quarters : {4, 3, 2}) {
    UNetGraphOptions smaller = o;
    smaller.height = std::max<int64_t>(o.height * quarters / 4, 1);
    smaller.width = std::max<int64_t>(o.width * quarters / 4, 1);
    if (o.dtype == DType::f32) smaller.dtype = DType::bf16;
    const size_t needed = memory_need(smaller).total();
    if (needed > *free) continue;
    fits = fmt::format("--width {} --height {} --dtype {} needs {} MiB and would fit", smaller.width * size_unit(),
                       smaller.height * size_unit(), dtype_name(smaller.dtype), mib(needed));
    break;
  }
  throw resource_error(
      "a picture of {}x{} in {} needs {} MiB (weights {}, activations {}, inputs and outputs {}), {} MiB are free on "
      "{}; "
      "{}",
      o.width * size_unit(), o.height * size_unit(), dtype_name(o.dtype), mib(need.total()), mib(need.weights),
      mib(need.activations), mib(need.outside), *free >> 20, session_.backend().description(), fits);
}

}  // namespace darkroom

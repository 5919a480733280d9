// sdrun: pictures from prompts.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>

#include "kernels/core/error.h"
#include "runtime/atomic_file.h"
#include "runtime/mapped_file.h"
#include "tools/common/default_model.h"
#include "tools/common/image_io.h"
#include "tools/common/lora_options.h"
#include "tools/common/model_cache.h"
#include "tools/common/model_options.h"
#include "tools/common/progress.h"
#include "tools/common/run_main.h"
#include "tools/common/tuning_file.h"
#include "tools/sdrun/parameters.h"

namespace {

using namespace darkroom;

struct Arguments {
  std::vector<std::string> prompts, more_prompts, embeddings, disabled_passes, kernels;
  std::string prompts_file, model, output = "out.png", negative, sampler, schedule, spacing, rng = "cpu",
                                   device = "auto", dtype = "f32", quantize = "none", image, mask, trace, from_image;
  int width = 0, height = 0, steps = 0, clip_skip = 0, reuse_deep = 1, vae_tile = 0, threads = default_threads();
  int64_t batch_count = 1;
  uint64_t seed = 0;
  float cfg_scale = 0, strength = 0.75f, guided_part = 1.0f;
  double eta = 0;
  ModelOptions model_options;
  double cache_limit = 20;
  bool no_cache = false;
  bool quiet = false, exact = false, untuned = false, check = false, has_negative = false, has_cfg = false,
       has_eta = false;
  LoraOptions loras;
};

constexpr const char* kExamples = R"(
Examples:
  sdrun "a red boat under a yellow moon"                     the model that comes with darkroom
  sdrun "a lighthouse, storm" -m sd15.sdw -o storm.png       a checkpoint of your own (sdconvert makes .sdw files)
  sdrun "a lighthouse, storm" -m sd15.safetensors            one file from elsewhere, also .ckpt: converted once, kept in a cache
  sdrun "a lighthouse, storm" -m sd15.sdw -b 4 -s 7          four pictures with the seeds 7, 8, 9, 10
  sdrun "in winter" -m sd15.sdw -i storm.png --strength 0.6  begin with a picture
  sdrun --from-image out.png -m sd15.sdw                     once more what out.png says about itself

Prompts: (word) and (word:1.3) weigh more, [word] less, BREAK begins a new chunk of 75 tokens.
Exit codes: 0 done, 2 wrong arguments, 3 a bad or missing file, 4 memory or device, 130 interrupted.)";

void declare(CLI::App& app, Arguments& a) {
  app.footer(kExamples);
  app.set_version_flag("--version", version_text());
  app.add_option("PROMPT", a.prompts, "what the picture shows; several make several pictures");
  app.add_option("-p,--prompt", a.more_prompts, "the same")->type_name("TEXT");
  app.add_option("--prompts-file", a.prompts_file, "a prompt a line")->type_name("FILE");
  app.add_option("-m,--model", a.model,
                 "a .sdw file, a diffusers folder, or a single .safetensors or .ckpt file (default: Scenes)")
      ->type_name("MODEL");
  declare_model_options(app, a.model_options);
  app.add_flag("--no-cache", a.no_cache, "read a single file as it is each time, and write nothing");
  app.add_option("--cache-limit", a.cache_limit, "size that converted single files may have together")
      ->type_name("GIB")
      ->capture_default_str();
  a.loras.declare(app);
  app.add_option("--embedding", a.embeddings,
                 "a textual inversion: its word may stand in prompts (default: its file's name)")
      ->type_name("FILE[:WORD]")
      ->allow_extra_args(false);
  app.add_option("-o,--output", a.output, "PNG to write; several become NAME-1.png, NAME-2.png ...")
      ->type_name("FILE")
      ->capture_default_str();
  app.add_option("-n,--negative-prompt", a.negative, "what it shall not show")->type_name("TEXT");
  app.add_option("-W,--width", a.width, "pixels (default: native size)")->type_name("N");
  app.add_option("-H,--height", a.height, "pixels")->type_name("N");
  app.add_option("--steps", a.steps, "denoising steps (default: the model's, else 20; 4 for lcm and tcd)")
      ->type_name("N");
  app.add_option("--cfg-scale", a.cfg_scale,
                 "how strictly to follow the prompt; 1: no guidance (default: the model's, else 7)")
      ->type_name("X");
  std::string samplers;
  for (const SamplerInfo& info : all_samplers()) samplers += (samplers.empty() ? "" : " ") + std::string(info.name);
  app.add_option(
         "--guided-part", a.guided_part,
         "guide in this part of the steps only, from the first on, and save half of the others: another picture")
      ->type_name("X");
  app.add_option(
         "--reuse-deep", a.reuse_deep,
         "compute the network's deep layers in every Nth step only, and save most of the others: another picture")
      ->type_name("N");
  app.add_option("--sampler", a.sampler, samplers + " (default: the checkpoint's)")->type_name("NAME");
  app.add_option("--schedule", a.schedule, "discrete karras exponential sgm_uniform simple")->type_name("NAME");
  app.add_option("--spacing", a.spacing, "leading trailing linspace")->type_name("NAME");
  app.add_option("--eta", a.eta, "noise of ddim (default 0), tcd (0.3) and ancestral samplers (1)")->type_name("X");
  app.add_option("--clip-skip", a.clip_skip, "text encoder layer, from the end: 1 is the last")->type_name("N");
  app.add_option("-s,--seed", a.seed, "of the noise")->type_name("N")->capture_default_str();
  app.add_option("--rng", a.rng, "whose noise a seed means: torch's on cpu or on cuda")
      ->type_name("cpu|cuda")
      ->capture_default_str();
  app.add_option("-b,--batch-count", a.batch_count, "pictures a prompt, with the seeds s, s+1 ...")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("-i,--image", a.image, "begin with this picture (PNG, JPEG, WebP)")->type_name("FILE");
  app.add_option("--strength", a.strength, "how much of it may change, 0 to 1")->type_name("X")->capture_default_str();
  app.add_option("--mask", a.mask, "paint only where this picture is white")->type_name("FILE");
  app.add_option("--from-image", a.from_image, "repeat what a PNG says about how it was made; arguments given here win")
      ->type_name("FILE");
  app.add_option("--device", a.device, "where to compute; auto: on a GPU where there is one")
      ->type_name("cpu|cuda|auto")
      ->capture_default_str();
  app.add_option("--threads", a.threads, "threads")->type_name("N")->capture_default_str();
  app.add_option("--dtype", a.dtype, "type of activations: f32, bf16, or on a GPU f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--quantize", a.quantize, "int8: the UNet's linear layers multiply whole numbers")
      ->check(CLI::IsMember({"none", "int8"}))
      ->capture_default_str();
  app.add_option("--vae-tile", a.vae_tile,
                 "decode by overlapping tiles of this side, for less memory (pixels; 0: as a whole)")
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--trace", a.trace, "write a trace of every step, for Perfetto or chrome://tracing")
      ->type_name("FILE");
  app.add_option("--no-fuse", a.disabled_passes, "switch a fusion pass off")
      ->type_name("PASS")
      ->allow_extra_args(false);
  app.add_option("--kernel", a.kernels, "force a kernel, as conv2d:ref")
      ->type_name("OP:VARIANT")
      ->allow_extra_args(false);
  app.add_flag("--untuned", a.untuned, "choose kernels by estimates, not by what sdplan tune measured");
  app.add_flag("--exact", a.exact, "direct sums only: no Winograd, whose rounding errors are a few times larger");
  app.add_flag("--check", a.check,
               "hold the first run of every plan against the reference kernels, step by step (slow)");
  app.add_flag("-q,--quiet", a.quiet, "no progress");
}

// Fills in what the arguments leave open.
void take_from_image(const CLI::App& app, Arguments& a) {
  const std::optional<std::string> text = read_png_text(a.from_image, "parameters");
  if (!text) throw file_error("{}: does not say how it was made (no parameters in it)", a.from_image);
  const std::map<std::string, std::string> v = parse_parameters(*text, a.from_image);
  const auto open = [&](const char* option, const char* key) {
    return app.count(option) == 0 && v.contains(key) ? &v.at(key) : nullptr;
  };
  const auto take = [&](const char* option, const char* key, auto& number) {
    const std::string* text = open(option, key);
    if (text) number = parse_number<std::remove_reference_t<decltype(number)>>(*text, key, a.from_image);
    return text != nullptr;
  };
  if (a.prompts.empty() && a.prompts_file.empty()) a.prompts = {v.at("prompt")};
  if (const auto* x = open("--negative-prompt", "negative")) a.negative = *x, a.has_negative = true;
  take("--steps", "Steps", a.steps);
  a.has_cfg |= take("--cfg-scale", "CFG scale", a.cfg_scale);
  take("--seed", "Seed", a.seed);
  take("--clip-skip", "Clip skip", a.clip_skip);
  a.has_eta |= take("--eta", "Eta", a.eta);
  take("--guided-part", "Guided part", a.guided_part);
  take("--reuse-deep", "Reuse deep", a.reuse_deep);
  if (const auto* x = open("--sampler", "Sampler")) a.sampler = *x;
  if (const auto* x = open("--schedule", "Schedule type"); x && *x != "Automatic") {
    a.schedule = *x;
    for (char& c : a.schedule) c = c == ' ' ? '_' : char(std::tolower(c));
  }
  if (const auto* x = open("--rng", "RNG")) a.rng = *x == "GPU" ? "cuda" : "cpu";
  if (const auto* x = open("--dtype", "Precision")) a.dtype = *x;
  if (const auto* x = open("--lora", "LoRA"))
    fmt::print(stderr, "{}: was made with the LoRAs {}; to repeat it, give their files with --lora\n", a.from_image,
               *x);
  if (const auto* x = open("--quantize", "Quantized")) a.quantize = *x;
  if (v.contains("Size") && app.count("--width") == 0 && app.count("--height") == 0) {
    const std::string& size = v.at("Size");
    const size_t cross = std::min(size.find('x'), size.size());
    a.width = parse_number<int>(size.substr(0, cross), "Size (WIDTHxHEIGHT)", a.from_image);
    a.height = parse_number<int>(size.substr(std::min(cross + 1, size.size())), "Size (WIDTHxHEIGHT)", a.from_image);
  }
}

Request make_request(const Arguments& a, const Pipeline& pipeline) {
  Request q;
  if (a.has_negative) q.negative_prompt = a.negative;
  q.width = a.width;
  q.height = a.height;
  q.steps = a.steps;
  if (a.steps < 0) throw usage_error("--steps {}: wants 1 or more", a.steps);
  if (a.has_cfg) q.cfg_scale = a.cfg_scale;
  q.sampler = a.sampler;
  if (!a.schedule.empty()) q.schedule = parse_schedule(a.schedule);
  if (!a.spacing.empty()) q.spacing = parse_spacing(a.spacing);
  if (a.has_eta) q.eta = a.eta;
  q.clip_skip = a.clip_skip;
  q.rng = parse_rng(a.rng);
  q.strength = a.strength;
  q.guided_part = a.guided_part;
  q.reuse_deep = a.reuse_deep;
  if (!a.image.empty()) {
    Image image = read_image(a.image);
    const auto fit = [&](int wanted, int have) {
      return wanted > 0 ? wanted : std::max(have / pipeline.size_unit(), 1) * pipeline.size_unit();
    };
    q.width = fit(a.width, image.width);
    q.height = fit(a.height, image.height);
    q.image = resize_image(image, q.width, q.height);
  }
  if (!a.mask.empty()) {
    if (!q.image) throw usage_error("--mask: wants a picture to keep the rest of: -i FILE");
    q.mask = read_mask(a.mask, q.width, q.height);
  }
  return q;
}

std::string output_name(const std::string& base, size_t index, size_t count) {
  if (count == 1) return base;
  const std::filesystem::path path(base);
  return (path.parent_path() / (path.stem().string() + "-" + std::to_string(index + 1) + path.extension().string()))
      .string();
}

void read_prompts(Arguments& a) {
  a.prompts.insert(a.prompts.end(), a.more_prompts.begin(), a.more_prompts.end());
  if (a.prompts_file.empty()) return;
  const std::string text = read_text_file(a.prompts_file);
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) a.prompts.push_back(line);
    at = end + 1;
  }
}

// Nothing where it was cancelled.
std::unique_ptr<Checkpoint> open_model(const Arguments& a, const std::string& model, const std::atomic<bool>* stop) {
  const CheckpointOptions options = checkpoint_options(a.model_options, model);
  if (a.no_cache || !is_single_file(model)) return open_checkpoint(model, options);
  if (!(a.cache_limit > 0 && a.cache_limit < 1e6))
    throw usage_error("--cache-limit {}: wants a number of GiB above 0", a.cache_limit);
  CacheOptions cache;
  cache.limit_bytes = uint64_t(a.cache_limit * double(1 << 30));
  cache.quiet = a.quiet;
  cache.cancel = stop;
  return open_cached(model, options, cache);
}

int run(int argc, char** argv) {
  CLI::App app("Makes pictures from prompts with a Stable Diffusion model.", "sdrun");
  Arguments a;
  declare(app, a);
  int exit_code = 0;
  if (!parse_arguments(app, argc, argv, &exit_code)) return exit_code;
  a.has_negative = app.count("--negative-prompt") > 0;
  a.has_cfg = app.count("--cfg-scale") > 0;
  a.has_eta = app.count("--eta") > 0;
  read_prompts(a);
  if (!a.from_image.empty()) take_from_image(app, a);
  if (a.prompts.empty()) throw usage_error("no prompt: sdrun \"a red boat under a yellow moon\" (--help tells more)");
  if (a.batch_count < 1 || a.batch_count > 100000)
    throw usage_error("--batch-count {}: wants 1 to 100000", a.batch_count);
  if (a.threads < 1 || a.threads > ThreadPool::kMaxThreads)
    throw usage_error("--threads {}: wants 1 to {}", a.threads, ThreadPool::kMaxThreads);
  const std::filesystem::path folder = std::filesystem::path(a.output).parent_path();
  if (!folder.empty() && !std::filesystem::is_directory(folder))
    throw file_error("{}: the folder {} does not exist", a.output, folder.string());

  std::unique_ptr<Trace> trace;
  PipelineOptions options;
  options.dtype = parse_dtype(a.dtype);
  const DeviceChoice device = choose_device(a.device);
  options.session.device = device.device;
  options.session.check = a.check;
  options.int8 = a.quantize == "int8";
  options.session.threads = a.threads;
  if (a.vae_tile != 0 && a.vae_tile < 128) throw usage_error("--vae-tile {}: wants 0, or 128 or more", a.vae_tile);
  options.decode_tile = a.vae_tile;
  options.session.exact = a.exact;
  if (!a.untuned) options.session.tuning = find_tuning();
  for (const std::string& pass : a.disabled_passes) {
    check_pass_name(pass);
    options.session.disabled_passes.insert(pass);
  }
  for (const std::string& kernel : a.kernels) parse_kernel_override(kernel, options.session.kernels);
  if (!a.trace.empty()) {
    trace = std::make_unique<Trace>();
    options.session.trace = trace.get();
  }
  for (const std::string& spec : a.embeddings) {
    options.embeddings.push_back(read_textual_inversion(spec));
    const TextualInversion& t = options.embeddings.back();
    if (!a.quiet) fmt::print(stderr, "{}: the word {}, {}\n", t.path, t.word, t.summary());
  }
  const std::atomic<bool>* stop = interrupted();
  const std::string model = a.model.empty() ? default_model() : a.model;
  std::unique_ptr<Checkpoint> checkpoint = open_model(a, model, stop);
  if (!checkpoint) {
    fmt::print(stderr, "sdrun: interrupted; nothing is written\n");
    return int(ErrorKind::cancelled);
  }
  Pipeline pipeline(add_loras(std::move(checkpoint), a.loras, a.threads, a.quiet), options);
  if (!a.quiet)
    fmt::print(stderr, "{}: {}{} ({})\n", device_name(device.device), pipeline.session().backend().description(),
               options.session.tuning ? ", tuned" : "", device.why);
  const Request base = make_request(a, pipeline);
  Ingredients ingredients{std::filesystem::path(model).filename().empty()
                              ? std::filesystem::path(model).parent_path().filename().string()
                              : std::filesystem::path(model).stem().string(),
                          a.loras.summary(), ""};
  for (const TextualInversion& t : options.embeddings)
    ingredients.embeddings += (ingredients.embeddings.empty() ? "" : ", ") + t.word;

  const size_t count = a.prompts.size() * size_t(a.batch_count);
  size_t index = 0;
  for (const std::string& prompt : a.prompts)
    for (int64_t k = 0; k < a.batch_count; ++k, ++index) {
      Request q = base;
      q.prompt = prompt;
      q.seed = a.seed + uint64_t(k);
      const ResolvedRequest resolved = pipeline.resolve(q);
      const auto begin = std::chrono::steady_clock::now();
      ProgressBar bar(count > 1 ? fmt::format("[{}/{}]", index + 1, count) : "step", "it", a.quiet);
      const std::optional<Image> image = pipeline.generate(
          resolved, [&](int done, int total) { bar.update(done, total); }, stop);
      bar.finish();
      if (!image) {
        fmt::print(stderr, "sdrun: interrupted; {} of {} pictures are written\n", index, count);
        return int(ErrorKind::cancelled);
      }
      const std::string path = output_name(a.output, index, count);
      write_png(path, *image, format_parameters(resolved, ingredients, options));
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      fmt::print("{}  {}x{}  seed {}  {:.2f} s\n", path, image->width, image->height, q.seed, seconds);
      std::fflush(stdout);
    }
  if (a.check) fmt::print("check: {}\n", pipeline.session().check()->summary());
  if (trace) {
    const std::string json = trace->to_json();
    AtomicFile file(a.trace);
    file.write(json.data(), json.size());
    file.commit();
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return darkroom::run_main("sdrun", argc, argv, run); }

// From a prompt to a picture: text encoders, the denoising loop, the autoencoder.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/loop.h"
#include "model/prompt.h"
#include "model/rng.h"
#include "model/samplers.h"
#include "model/textual_inversion.h"

namespace darkroom {

// 8-bit RGB, rows from the top.
struct Image {
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;  // width · height · 3
};

// "f32", "bf16" or "f16". Throws usage_error on anything else.
DType parse_dtype(std::string_view name);

struct PipelineOptions {
  DType dtype = DType::f32;  // of activations: f32, bf16, or on a GPU f16
  bool int8 = false;         // the UNet's linear layers multiply int8
  SessionOptions session;
  int decode_tile = 0;  // pixels: larger pictures are decoded by tiles of this side (model/tiles.h); 0: as a whole
  std::vector<TextualInversion> embeddings;  // words that prompts may use besides the model's own
};

struct Request {
  std::string prompt;
  std::optional<std::string> negative_prompt;  // none differs from "" for XL: zeros instead of an encoded nothing
  int width = 0, height = 0;                   // 0: the model's native size
  int steps = 0;                               // 0: the model's own, else 20; 4 for consistency models
  std::optional<float> cfg_scale;              // none: the model's own, else 7; 1 for consistency models
  std::string sampler;                         // "": the checkpoint's
  std::optional<ScheduleKind> schedule;
  std::optional<Spacing> spacing;
  std::optional<double> eta;
  int clip_skip = 0;  // 1: the last layer, 2: the one before …; 0: as the model was trained
  uint64_t seed = 0;
  RngKind rng = RngKind::cpu;
  // img2img: the picture to begin with (of the request's size), and the part of the steps that is run.
  std::optional<Image> image;
  float strength = 0.75f;
  // Inpainting: one value a pixel, 0 keeps the image, 255 paints anew. Needs `image`.
  std::vector<uint8_t> mask;
  // Savings that change the picture, off by default: guidance in this part of the network's calls, from the first on; how many
  // calls in a row share deep features (Denoiser).
  float guided_part = 1.0f;
  int reuse_deep = 1;
};

// What a request means for this model: every default filled in.
struct ResolvedRequest {
  Request request;
  SchedulerConfig scheduler;
  SamplerProgram program;
  std::string_view sampler;  // the table's name
};

// done of total calls of the network, after each.
using ProgressCallback = std::function<void(int done, int total)>;

class Pipeline {
 public:
  // Reads the configurations and the tokenizers. Throws file_error, and usage_error where the device has no such dtype.
  Pipeline(std::unique_ptr<Checkpoint> checkpoint, PipelineOptions options);

  // Checks a request and fills in what it leaves open. Throws usage_error naming the argument.
  ResolvedRequest resolve(const Request& request) const;

  // Nothing where it was cancelled. Plans and packed weights are kept for the next call of the same size.
  std::optional<Image> generate(const ResolvedRequest& request, const ProgressCallback& progress = {},
                                const std::atomic<bool>* cancel = nullptr);

  int native_size() const { return int(unet_.sample_size * vae_.factor()); }
  // Width and height are multiples of this.
  int size_unit() const { return int(vae_.factor()); }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  Session& session() { return session_; }

  // The graphs of a request, for those who look at plans. `batch`: 2 with guidance.
  std::vector<Graph> graphs(int width, int height, int64_t batch, int64_t tokens) const;

 private:
  struct TextEncoder {
    std::string component;
    ClipTextConfig config;  // vocab_size counts the learned words too
    int32_t own_ids;        // those of the model's own vocabulary lie below
    Tokenizer tokenizer;
    int32_t pad_id;
    std::unique_ptr<Program> program;  // of the last clip skip asked for
    int64_t layers = -2;
    std::vector<float> hidden;
  };
  struct EncodedPrompt {
    std::vector<float> context;  // [tokens, width]
    std::vector<float> pooled;   // XL
    int64_t tokens = 0;
  };

  void load_text_encoder(const std::string& component, const std::string& tokenizer);
  EncodedPrompt encode_prompt(const std::string& prompt, int clip_skip, size_t chunks);
  size_t chunk_count(const std::string& prompt) const;
  Conditioning make_conditioning(const Request& request, bool guided, int64_t* tokens);
  Loop& loop(const UNetGraphOptions& options, int reuse);
  std::optional<std::vector<float>> encode_image(const Image& image, NoiseSource& noise,
                                                 const std::atomic<bool>* cancel);
  std::optional<Image> decode(const std::vector<float>& latents, int64_t height, int64_t width,
                              const std::atomic<bool>* cancel);
  std::optional<Image> decode_tiles(const std::vector<float>& latents, int64_t height, int64_t width,
                                    const std::atomic<bool>* cancel);
  Graph decoder_graph(int64_t height, int64_t width, DType dtype) const;
  std::vector<Graph> picture_graphs(int width, int height, int64_t batch, int64_t tokens, DType dtype) const;
  MemoryNeed memory_need(const UNetGraphOptions& options) const;
  void check_memory(const UNetGraphOptions& options) const;
  bool is_xl() const { return unet_.text_time; }

  std::unique_ptr<Checkpoint> checkpoint_;
  PipelineOptions options_;
  UNetConfig unet_;
  VaeConfig vae_;
  SchedulerConfig scheduler_;
  GenerationConfig generation_;
  bool zeros_for_no_negative_ = false;
  Session session_;  // before the programs that run in its memory
  std::vector<TextEncoder> encoders_;
  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Program> decoder_, encoder_;
};

}  // namespace darkroom

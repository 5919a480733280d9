#include "tools/common/model_options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <filesystem>

namespace darkroom {

namespace {

std::string default_tokenizer() {
  if (const char* named = std::getenv("DARKROOM_TOKENIZER")) return named;
  const char *data = std::getenv("XDG_DATA_HOME"), *home = std::getenv("HOME");
  if (!data && !home) return "";
  const std::string path =
      (data ? std::string(data) : std::string(home) + "/.local/share") + "/darkroom/tokenizer.txt.gz";
  std::error_code error;
  return std::filesystem::exists(path, error) ? path : "";
}

}  // namespace

void declare_model_options(CLI::App& app, ModelOptions& o) {
  app.add_option("--vae", o.vae,
                 "take the autoencoder from this file: an AutoencoderKL, or a TAESD (its two halves by --vae twice)")
      ->type_name("FILE")
      ->allow_extra_args(false);
  app.add_option("--prediction", o.prediction,
                 "what a single file's UNet was trained for: epsilon or v (default: v for SD 2.x, "
                 "where epsilon is the 512-pixel base; epsilon for all others)")
      ->check(CLI::IsMember({"epsilon", "v"}))
      ->type_name("KIND");
  app.add_flag("--ema", o.ema, "a single file's running averages (model_ema.*) in place of its weights");
  app.add_option("--tokenizer", o.tokenizer,
                 "for a single file: merges.txt, bpe_simple_vocab_16e6.txt.gz, a diffusers tokenizer folder, or the "
                 "open_clip_torch wheel")
      ->type_name("PATH");
  app.add_option("--config", o.configs, "for a single file of an unusual size: a diffusers folder with its configs")
      ->type_name("FOLDER");
}

CheckpointOptions checkpoint_options(const ModelOptions& o, const std::string& model) {
  CheckpointOptions c;
  c.vae = o.vae;
  c.ema = o.ema;
  c.configs = o.configs;
  c.tokenizer = o.tokenizer;
  if (c.tokenizer.empty() && is_single_file(model)) c.tokenizer = default_tokenizer();
  if (!o.prediction.empty()) c.prediction = o.prediction == "v" ? Prediction::v : Prediction::epsilon;
  return c;
}

}  // namespace darkroom

// Which model a single-file checkpoint holds: told by its keys and shapes, never by the file's name.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model/schedule.h"
#include "runtime/tensor_file.h"

namespace darkroom {

// How a text encoder's tensors are named.
enum class TextLayout : uint8_t { transformers, openclip };

struct LdmTextEncoder {
  const char* component;  // "text_encoder", "text_encoder_2"
  TextLayout layout;
  const char* prefix;  // "cond_stage_model.transformer.text_model."
  int64_t layers;  // that are read, where not all are: SD 2.x reads the state before OpenCLIP-H's last layer; 0: all
};

struct LdmFamily {
  const char* name;                      // "SD 1.x"
  int64_t context;                       // width of what the UNet's cross-attention reads
  std::vector<LdmTextEncoder> encoders;  // in the order in which their states lie side by side
  const char* scheduler;                 // of which published family the scheduler's settings are (family_configs.h)
  Prediction prediction;                 // unless the file or --prediction says otherwise
  int64_t sample_size;                   // native latent side, where the prediction is the default one
  int64_t other_sample_size;             // where it is the other one: SD 2.x's 512-pixel base
  double scaling_factor;
  bool zeros_for_no_negative;  // XL base
};

struct LdmRecognition {
  const LdmFamily* family = nullptr;
  Prediction prediction = Prediction::epsilon;
  // The texts that a diffusers folder of the model would have: model_index.json, unet/config.json ...
  std::map<std::string, std::string, std::less<>> texts;
  // What was read from the file, a line each, for people.
  std::vector<std::string> evidence;
};

inline constexpr const char* kLdmUnet = "model.diffusion_model.";
inline constexpr const char* kLdmVae = "first_stage_model.";

const std::vector<LdmFamily>& ldm_families();

// `configs`: a diffusers folder whose config files are taken in place of what follows from the shapes; "": none.
// Throws file_error saying what is missing where the file is no checkpoint of a family that there is.
LdmRecognition recognise_ldm(const TensorFile& file, std::optional<Prediction> prediction, const std::string& configs);

// vae/config.json from an autoencoder's shapes, in LDM or diffusers naming, behind `prefix`. Nothing where there is none.
std::optional<std::string> recognise_vae(const TensorFile& file, const std::string& prefix, double scaling_factor,
                                         int64_t sample_size);

}  // namespace darkroom

#include "model/taesd_file.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

constexpr const char* kHalves[] = {"encoder", "decoder"};
constexpr int64_t kMostLayers = 200;

}  // namespace

TaesdNames::Half TaesdNames::find_half(const TensorFile& file, bool decoder) {
  const std::string name = kHalves[decoder];
  for (const std::string& prefix : {name + ".layers.", "taesd_" + name + ".", name + ".", std::string()}) {
    const int64_t first = decoder && !prefix.ends_with(".layers.") ? 1 : 0;
    // The first convolution, and the first residual block: behind the decoder's ReLU.
    if (file.find(fmt::format("{}{}.weight", prefix, first)) &&
        file.find(fmt::format("{}{}.conv.0.weight", prefix, first + (decoder ? 2 : 1))))
      return {&file, prefix, first, {}};
  }
  return {};
}

// Encoder: conv, blocks (conv, blocks)* conv. Decoder: conv, ReLU, blocks (upsample, conv, blocks)* conv.
void TaesdNames::count_blocks(Half& half, bool decoder) {
  enum class Layer { conv, block, no_weights };
  const auto layer = [&](int64_t n) {
    const std::string name = fmt::format("{}{}.", half.prefix, half.first + n);
    if (half.file->find(name + "weight")) return Layer::conv;
    return half.file->find(name + "conv.0.weight") ? Layer::block : Layer::no_weights;
  };
  int64_t n = decoder ? 2 : 1;
  bool last = false;
  while (!last && n < kMostLayers) {
    half.blocks.push_back(0);
    for (; layer(n) == Layer::block && n < kMostLayers; ++n) ++half.blocks.back();
    // What leads to the next level; a convolution with nothing behind it is the last layer.
    const bool upsampled = decoder && layer(n) == Layer::no_weights;
    if (upsampled) ++n;
    if (half.blocks.back() == 0 || layer(n) != Layer::conv) break;
    last = decoder ? !upsampled : layer(n + 1) != Layer::block;
    ++n;
  }
  if (!last)
    throw file_error("{}: begins as the {} of a TAESD, and its layer {}{} is none that belongs there",
                     half.file->path(), kHalves[decoder], half.prefix, half.first + n);
}

std::optional<TaesdNames> TaesdNames::find(std::span<const TensorFile> files) {
  TaesdNames names;
  for (const TensorFile& file : files)
    for (const bool decoder : {false, true}) {
      Half half = find_half(file, decoder);
      if (!half.file) continue;
      if (names.halves_[decoder].file)
        throw file_error("{}: has the {} of a TAESD, and so has {}", file.path(), kHalves[decoder],
                         names.halves_[decoder].file->path());
      count_blocks(half, decoder);
      names.halves_[decoder] = std::move(half);
    }
  if (!names.halves_[0].file && !names.halves_[1].file) return std::nullopt;
  if (!names.halves_[1].file)
    throw file_error("{}: is a TAESD's encoder alone: name the decoder's file with --vae too",
                     names.halves_[0].file->path());
  return names;
}

std::string TaesdNames::config() const {
  const Half &encoder = halves_[0], &decoder = halves_[1];
  const auto dim = [](const Half& half, int64_t layer, size_t i) {
    const std::string name = fmt::format("{}{}.weight", half.prefix, half.first + layer);
    const StoredTensor& t = *half.file->find(name);
    if (t.shape.size() != 4) throw file_error("{}: {} is no convolution", half.file->path(), name);
    return t.shape[i];
  };
  int64_t last = 2 * int64_t(decoder.blocks.size());  // conv and ReLU, then upsample and conv
  for (int64_t n : decoder.blocks) last += n;
  const std::vector<int64_t> channels(decoder.blocks.size(), dim(decoder, 0, 0));
  return nlohmann::json({{"_class_name", "AutoencoderTiny"},
                         {"in_channels", encoder.file ? dim(encoder, 0, 1) : 3},
                         {"out_channels", dim(decoder, last, 0)},
                         {"latent_channels", dim(decoder, 0, 1)},
                         {"num_encoder_blocks", encoder.blocks},
                         {"num_decoder_blocks", decoder.blocks},
                         {"encoder_block_out_channels", channels},
                         {"decoder_block_out_channels", channels},
                         {"scaling_factor", 1.0}})
      .dump();
}

TaesdNames::Place TaesdNames::operator()(const std::string& diffusers) const {
  // HALF.layers.N.LEAF
  const Half& half = halves_[diffusers.starts_with("decoder.")];
  const size_t number = diffusers.find("layers.") + 7, leaf = diffusers.find('.', number);
  const int64_t n = std::stoll(diffusers.substr(number, leaf - number));
  return {half.file, fmt::format("{}{}{}", half.prefix, half.first + n, diffusers.substr(leaf))};
}

}  // namespace darkroom

#include "model/lora.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>

#include "kernels/core/error.h"
#include "model/inventory.h"
#include "runtime/select.h"
#include "runtime/thread_pool.h"

namespace darkroom {

namespace {

constexpr int64_t kBlockElements = 1 << 22;  // of a weight that are merged at a time: 16 MiB of f32

// From every name that a LoRA may give a layer to the weight: the linear and convolution layers of the text encoders and of
// the UNet.
std::map<std::string, std::string, std::less<>> layer_names(const Checkpoint& checkpoint) {
  constexpr std::string_view kLeaf = ".weight";
  const NameMap ldm = ldm_unet_names(
      parse_unet_config(checkpoint.required_text("unet/config.json"), checkpoint.where() + ": unet/config.json"));
  std::map<std::string, std::string, std::less<>> names;
  for (const InventoryEntry& e : model_inventory(checkpoint)) {
    if (e.component == "vae" || !e.name.ends_with(kLeaf) || e.name.starts_with("text_model.embeddings.")) continue;
    if (e.shape.rank() != 2 && e.shape.rank() != 4) continue;
    const std::string_view layer = std::string_view(e.name).substr(0, e.name.size() - kLeaf.size());
    for (std::string& name : lora_layer_names(ldm, e.component, layer)) names.emplace(std::move(name), e.full());
  }
  return names;
}

// [O, I, KH, KW] of a layer's change, and of a weight: a 1×1 convolution and a linear layer are the same.
Shape change_shape(const LoraFile::Layer& layer) {
  const auto dim = [](const StoredTensor& e, size_t i) { return i < e.shape.size() ? e.shape[i] : 1; };
  const StoredTensor& window = layer.mid ? *layer.mid : *layer.down;
  return {dim(*layer.up, 0), dim(*layer.down, 1), dim(window, 2), dim(window, 3)};
}
Shape weight_shape(const Shape& s) { return {s[0], s[1], s.rank() > 2 ? s[2] : 1, s.rank() > 2 ? s[3] : 1}; }

}  // namespace

LoraSpec parse_lora_spec(const std::string& text) {
  LoraSpec spec{text, 1.0f};
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(text)) return spec;
  const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto [rest, error] = std::from_chars(begin, end, spec.weight);
  if (error != std::errc() || rest != end) return {text, 1.0f};
  if (colon == 0 || !std::isfinite(spec.weight)) throw usage_error("--lora {}: wants FILE or FILE:WEIGHT", text);
  spec.path.resize(colon);
  return spec;
}

// The threads that merge, and the product that they use: matmul of the kernel table.
class LoraCheckpoint::Team {
 public:
  explicit Team(int threads) : pool_(threads) {}

  // out [rows, columns] = base + Σ scale · up [rows, rank] · down [rank, columns], rounded to `dtype`. False where a sum is not
  // finite. `sum` and `product` are work memory of rows · columns.
  struct Factor {
    const float *up, *down;
    int64_t rank;
    float scale;
  };
  bool add(DType dtype, const std::byte* base, std::span<const Factor> factors, int64_t rows, int64_t columns,
           float* sum, float* product, std::byte* out) {
    std::vector<OpAttrs> attrs(factors.size());
    std::vector<KernelCall> calls(factors.size());
    std::vector<const KernelDef*> kernels(factors.size());
    std::vector<std::vector<std::byte>> scratch(factors.size());
    for (size_t i = 0; i < factors.size(); ++i) {
      const Factor& f = factors[i];
      attrs[i] = MatmulAttrs{f.scale, /*transpose_b=*/false};
      KernelCall& call = calls[i];
      call.attrs = &attrs[i];
      call.in[MatmulAttrs::kA] = TensorView::dense(const_cast<float*>(f.up), DType::f32, Shape{1, 1, rows, f.rank});
      call.in[MatmulAttrs::kB] =
          TensorView::dense(const_cast<float*>(f.down), DType::f32, Shape{1, 1, f.rank, columns});
      call.out = TensorView::dense(product, DType::f32, Shape{1, 1, rows, columns});
      kernels[i] = select_kernel(call, {}, "lora").kernel;
      if (!kernels[i]->scratch_bytes) continue;
      constexpr size_t kAlignment = 64;
      scratch[i].resize(kernels[i]->scratch_bytes(call, pool_.size()) + kAlignment);
      void* memory = scratch[i].data();
      size_t space = scratch[i].size();
      call.scratch = std::align(kAlignment, space - kAlignment, memory, space);
    }
    std::atomic<bool> finite{true};
    pool_.run([&](const darkroom::Team& team) {
      const auto [begin, end] = team.range(rows);
      const int64_t first = begin * columns, count = (end - begin) * columns;
      read_elements(dtype, base, first, count, sum + first);
      for (size_t i = 0; i < calls.size(); ++i) {
        kernels[i]->launch(calls[i], team);
        team.sync();
        for (int64_t k = first; k < first + count; ++k) sum[k] += product[k];
        team.sync();
      }
      std::byte* to = out + size_t(first) * dtype_size(dtype);
      write_elements(dtype, sum + first, count, to);
      read_elements(dtype, to, 0, count, sum + first);
      if (!std::all_of(sum + first, sum + first + count, [](float x) { return std::isfinite(x); })) finite = false;
    });
    return finite;
  }

 private:
  ThreadPool pool_;
};

LoraCheckpoint::LoraCheckpoint(std::unique_ptr<Checkpoint> base, const std::vector<LoraSpec>& loras, int threads)
    : base_(std::move(base)), team_(std::make_unique<Team>(threads)) {
  const std::map<std::string, std::string, std::less<>> names = layer_names(*base_);
  for (const LoraSpec& spec : loras) add(spec, names);
}

LoraCheckpoint::~LoraCheckpoint() = default;

void LoraCheckpoint::add(const LoraSpec& spec, const std::map<std::string, std::string, std::less<>>& names) {
  files_.push_back(std::make_unique<LoraFile>(spec.path));
  const LoraFile& file = *files_.back();
  LoraReport report{spec.path, spec.weight, 0, file.layers().size(), {}};
  std::map<std::string, std::string> seen;  // weights of this file, and the layer that changes each
  const std::string family = file.family().empty() ? "another family" : file.family();
  for (const auto& [name, layer] : file.layers()) {
    const auto found = names.find(name);
    if (found == names.end()) {
      report.unknown.push_back(name);
      continue;
    }
    const std::string& weight = found->second;
    const Shape have = change_shape(layer), wanted = weight_shape(base_->describe(weight).shape);
    if (!(have == wanted))
      throw file_error("{}: {} changes a weight of {}, this model's {} is {}: a LoRA for {}", spec.path, name,
                       have.to_string(), weight, wanted.to_string(), family);
    if (const auto [other, fresh] = seen.emplace(weight, name); !fresh)
      throw file_error("{}: {} and {} are the same layer", spec.path, other->second, name);
    changes_[weight].push_back({&file, &layer, float(double(spec.weight) * layer.scale)});
    ++report.applied;
  }
  if (report.applied == 0)
    throw file_error("{}: none of its {} layers ({} ...) is one of this model's: a LoRA for {}", spec.path,
                     report.layers, report.unknown[0], family);
  reports_.push_back(std::move(report));
}

WeightView LoraCheckpoint::find(std::string_view name) const {
  const auto change = changes_.find(name);
  if (change == changes_.end()) return base_->find(name);
  WeightView view = base_->describe(name);
  std::vector<std::byte>& merged = merged_[change->first];
  if (merged.empty()) merged = merge(name, change->second);
  view.data = merged.data();
  view.bytes = merged.size();
  return view;
}

void LoraCheckpoint::release(std::string_view name) const {
  if (const auto found = merged_.find(name); found != merged_.end()) merged_.erase(found);
  base_->release(name);
}

std::vector<std::byte> LoraCheckpoint::merge(std::string_view name, const std::vector<Change>& changes) const {
  const WeightView base = base_->find(name);
  const int64_t rows = base.shape[0], columns = base.shape.elements() / rows;
  std::vector<std::byte> merged(size_t(base.shape.elements()) * dtype_size(base.dtype));
  std::vector<std::vector<float>> ups, downs;
  for (const Change& c : changes) {
    ups.push_back(c.file->up(*c.layer));
    downs.push_back(c.file->down(*c.layer));
  }
  const int64_t block = std::clamp(kBlockElements / columns, int64_t(1), rows);
  std::vector<float> sum(size_t(block * columns)), product(sum.size());
  for (int64_t first = 0; first < rows; first += block) {
    const int64_t n = std::min(block, rows - first);
    std::vector<Team::Factor> factors;
    for (size_t i = 0; i < changes.size(); ++i) {
      const int64_t rank = int64_t(ups[i].size()) / rows;
      factors.push_back({ups[i].data() + first * rank, downs[i].data(), rank, changes[i].scale});
    }
    const size_t at = size_t(first * columns) * dtype_size(base.dtype);
    if (!team_->add(base.dtype, base.data + at, factors, n, columns, sum.data(), product.data(), merged.data() + at))
      throw file_error("{}: {} with {} added is not finite, or more than {} can hold", where(), name,
                       changes.back().file->path(), dtype_name(base.dtype));
  }
  base_->release(name);
  return merged;
}

}  // namespace darkroom

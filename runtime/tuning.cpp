#include "runtime/tuning.h"

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "runtime/atomic_file.h"
#include "runtime/mapped_file.h"

namespace darkroom {

namespace {

constexpr const char* kFormat = "darkroom tuning 1";

std::string shape_of_sample(const TensorView& v) {
  Shape sample = v.shape;
  sample[0] = 1;
  return sample.to_string();
}

}  // namespace

std::string Tuning::key(const KernelCall& call) {
  const OpDef& op = op_def(op_kind(*call.attrs));
  std::string text = fmt::format("{} {}:", op.name, describe(*call.attrs, call.in));
  for (int slot = 0; slot < op.inputs; ++slot) {
    const TensorView& v = call.in[slot];
    if (!v.present()) continue;
    const bool activation = op.role(slot) == SlotRole::activation;
    text += fmt::format(" {} {},", dtype_name(v.dtype), activation ? shape_of_sample(v) : v.shape.to_string());
  }
  text.back() = ' ';
  text += fmt::format("-> {} {}", dtype_name(call.out.dtype), shape_of_sample(call.out));
  return call.moments.present() ? text + " and moments" : text;
}

void Tuning::set(const std::string& key, const Times& times) {
  for (const auto& [variant, seconds] : times) calls_[key][variant] = seconds;
}

const Tuning::Times* Tuning::find(const KernelCall& call) const {
  const auto found = calls_.find(key(call));
  return found == calls_.end() ? nullptr : &found->second;
}

Tuning Tuning::load(const std::string& path) {
  const std::string text = read_text_file(path);
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const auto wrong = [&](std::string_view what) {
    return file_error("{}: {}; delete it, or write it anew with sdplan tune", path, what);
  };
  if (!json.is_object() || !json.contains("format") || json["format"] != kFormat)
    throw wrong(fmt::format("is no '{}'", kFormat));
  const auto calls = json.find("calls");
  if (calls == json.end() || !calls->is_object()) throw wrong("has no calls");
  Tuning tuning;
  for (const auto& [key, times] : calls->items()) {
    if (!times.is_object() || times.empty()) throw wrong(fmt::format("the call '{}' has no times", key));
    for (const auto& [variant, seconds] : times.items()) {
      if (!seconds.is_number() || !(seconds.get<double>() > 0))
        throw wrong(fmt::format("the time of {} for '{}' is no positive number", variant, key));
      tuning.calls_[key][variant] = seconds;
    }
  }
  return tuning;
}

void Tuning::save(const std::string& path, const std::string& machine) const {
  const nlohmann::json json = {{"format", kFormat}, {"machine", machine}, {"calls", calls_}};
  const std::string text = json.dump(1) + "\n";
  AtomicFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

}  // namespace darkroom

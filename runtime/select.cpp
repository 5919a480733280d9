#include "runtime/select.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/core/error.h"
#include "runtime/tuning.h"

namespace darkroom {

void parse_kernel_override(std::string_view text, KernelOverrides& overrides) {
  const size_t colon = text.find(':');
  const std::string_view op_name = text.substr(0, colon);
  const OpDef* op = find_op(op_name);
  if (colon == std::string_view::npos || op == nullptr) {
    std::string known;
    for (const OpDef& o : all_ops()) known += (known.empty() ? "" : ", ") + std::string(o.name);
    throw usage_error("--kernel {}: wants OP:VARIANT with one of the ops {}", text, known);
  }
  const std::string_view variant = text.substr(colon + 1);
  if (find_kernel(op->kind, variant) == nullptr) {
    std::string known;
    for (const KernelDef* k : kernels_of(op->kind)) known += (known.empty() ? "" : ", ") + std::string(k->variant);
    throw usage_error("--kernel {}: {} has the variants {}", text, op_name, known);
  }
  overrides[std::string(op_name)] = variant;
}

std::string refusal(const KernelDef& kernel, const KernelCall& call, const SelectOptions& options) {
  const auto forced = options.kernels.find(op_def(kernel.op).name);
  if (forced != options.kernels.end() && kernel.variant != forced->second)
    return fmt::format("{} is asked for", forced->second);
  if (!runs_on(kernel.isa, options.isa))
    return fmt::format("needs {}, {} is what may be used", isa_name(kernel.isa), isa_name(options.isa));
  if (options.exact && kernel.inexact) return "exact results are asked for";
  if (const char* why = kernel.reject(call)) return why;
  if (!call.moments.present()) return "";
  const int64_t slabs = kernel.moments_slabs ? kernel.moments_slabs(call) : 0;
  if (slabs == call.moments.shape[1]) return "";
  return slabs == 0 ? "it leaves no moments" : "its moments are of other slabs";
}

Selection select_kernel(const KernelCall& call, const SelectOptions& options, std::string_view node) {
  const OpDef& op = op_def(op_kind(*call.attrs));
  const Tuning::Times* times = options.tuning ? options.tuning->find(call) : nullptr;
  // What is compared; 0 where nothing is known. A variant that was not there when the others were measured loses.
  const auto cost_of = [&](const KernelDef& kernel) {
    if (!times) return kernel.cycles ? kernel.cycles(call) : 0;
    const auto found = times->find(kernel.variant);
    return found == times->end() ? std::numeric_limits<double>::infinity() : found->second;
  };
  Selection selection;
  double best = 0;
  for (const KernelDef* kernel : kernels_of(op.kind)) {
    if (is_cuda(kernel->isa) != is_cuda(options.isa)) continue;  // for the other device
    if (std::string reason = refusal(*kernel, call, options); !reason.empty()) {
      if (!selection.kernel) selection.refused.push_back({kernel->variant, std::move(reason)});
      continue;
    }
    const double cost = cost_of(*kernel);
    if (!selection.kernel) {
      selection.kernel = kernel;
      best = cost;
      continue;
    }
    if (best == 0 || cost == 0) continue;
    const bool faster = cost < best;
    const double ratio = std::max(best, cost) / std::min(best, cost);
    selection.refused.push_back(
        {faster ? selection.kernel->variant : kernel->variant,
         std::isfinite(ratio) ? fmt::format("{} to take {:.2f} times as long", times ? "measured" : "estimated", ratio)
                              : "was not measured"});
    if (faster) {
      selection.kernel = kernel;
      best = cost;
    }
  }
  if (selection.kernel) return selection;
  std::string reasons;
  for (const Refusal& r : selection.refused)
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", r.variant, r.reason);
  throw usage_error("{}: no kernel can run this {} ({})", node, op.name, reasons);
}

}  // namespace darkroom

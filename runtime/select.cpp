#include "runtime/select.h"

#include <algorithm>

#include "kernels/core/error.h"

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

Selection select_kernel(const KernelCall& call, const SelectOptions& options, std::string_view node) {
  const OpDef& op = op_def(op_kind(*call.attrs));
  const auto forced = options.kernels.find(op.name);
  Selection selection;
  double best = 0;
  for (const KernelDef* kernel : kernels_of(op.kind)) {
    if (is_cuda(kernel->isa) != is_cuda(options.isa)) continue;  // for the other device
    std::string reason;
    if (forced != options.kernels.end() && kernel->variant != forced->second)
      reason = fmt::format("{} is asked for", forced->second);
    else if (!runs_on(kernel->isa, options.isa))
      reason = fmt::format("needs {}, {} is what may be used", isa_name(kernel->isa), isa_name(options.isa));
    else if (options.exact && kernel->inexact)
      reason = "exact results are asked for";
    else if (const char* why = kernel->reject(call))
      reason = why;
    if (!reason.empty()) {
      if (!selection.kernel) selection.refused.push_back({kernel->variant, std::move(reason)});
      continue;
    }
    const double cycles = kernel->cycles ? kernel->cycles(call) : 0;
    if (!selection.kernel) {
      selection.kernel = kernel;
      best = cycles;
      continue;
    }
    if (best == 0 || cycles == 0) continue;
    const auto [slow, fast] = std::pair(std::max(best, cycles), std::min(best, cycles));
    const std::string_view loser = cycles < best ? selection.kernel->variant : kernel->variant;
    selection.refused.push_back({loser, fmt::format("estimated to take {:.2f} times as long", slow / fast)});
    if (cycles < best) {
      selection.kernel = kernel;
      best = cycles;
    }
  }
  if (selection.kernel) return selection;
  std::string reasons;
  for (const Refusal& r : selection.refused)
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", r.variant, r.reason);
  throw usage_error("{}: no kernel can run this {} ({})", node, op.name, reasons);
}

}  // namespace darkroom

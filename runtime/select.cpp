#include "runtime/select.h"

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

Selection select_kernel(const KernelCall& call, const KernelOverrides& overrides, Isa isa, std::string_view node) {
  const OpDef& op = op_def(op_kind(*call.attrs));
  const auto forced = overrides.find(op.name);
  Selection selection;
  for (const KernelDef* kernel : kernels_of(op.kind)) {
    if (is_cuda(kernel->isa) != is_cuda(isa)) continue;  // for the other device
    std::string reason;
    if (forced != overrides.end() && kernel->variant != forced->second)
      reason = fmt::format("{} is asked for", forced->second);
    else if (!runs_on(kernel->isa, isa))
      reason = fmt::format("needs {}, {} is what may be used", isa_name(kernel->isa), isa_name(isa));
    else if (const char* why = kernel->reject(call))
      reason = why;
    else {
      selection.kernel = kernel;
      return selection;
    }
    selection.refused.push_back({kernel->variant, std::move(reason)});
  }
  std::string reasons;
  for (const Refusal& r : selection.refused)
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", r.variant, r.reason);
  throw usage_error("{}: no kernel can run this {} ({})", node, op.name, reasons);
}

}  // namespace darkroom

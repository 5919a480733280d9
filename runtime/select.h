// Which implementation runs a node: the one that was measured to be the fastest; without a measurement the one with the least
// estimate of its time; where there is no estimate, the first of the op's list that does not refuse. Those that are passed
// over are kept, with the reason as a sentence.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom {

class Tuning;

struct Refusal {
  std::string_view variant;
  std::string reason;
};

struct Selection {
  const KernelDef* kernel = nullptr;
  std::vector<Refusal>
      refused;  // those that stand before it in the list, and those that are slower, by measurement or estimate
};

// Forced variants by op name: {"conv2d", "ref"}. parse_kernel_override("conv2d:ref", overrides) adds one; throws
// usage_error on an op or variant that does not exist, naming those that do.
using KernelOverrides = std::map<std::string, std::string, std::less<>>;
void parse_kernel_override(std::string_view text, KernelOverrides& overrides);

struct SelectOptions {
  KernelOverrides kernels;
  Isa isa = active_isa();  // what kernels may use; those for the other device are passed over
  bool exact = false;      // no kernel that is KernelDef::inexact
  const Tuning* tuning = nullptr;
};

// Why this kernel may not run the call, as a sentence; empty where it may.
std::string refusal(const KernelDef& kernel, const KernelCall& call, const SelectOptions& options);

// Throws usage_error with every reason where nothing can run the call.
Selection select_kernel(const KernelCall& call, const SelectOptions& options, std::string_view node);

}  // namespace darkroom

// How every CUDA kernel reaches memory on real layers: a few blocks of each grid at full size, counted by the emulator.
#pragma once

#include <simt/report.h>

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/kernel.h"

namespace darkroom::testing {

struct LayerAccesses {
  std::string layer;  // "64x64x320 to 320, bf16"
  const KernelDef* kernel;
  std::map<std::string, simt::KernelReport> grids;  // by name: what the call launched
};

// What a grid may take of sectors, and of wavefronts of shared memory, for each that is needed: kWhole, for the ends of rows, but
// where this table says more, and why.
inline constexpr double kWhole = 1.02;
struct AccessBar {
  std::string_view grid, layer;  // parts of their names
  double global, shared;
  std::string_view why;
};
std::span<const AccessBar> access_bars();
// The first that is meant; null: none.
const AccessBar* bar_of(std::string_view grid, std::string_view layer);

// Layers of SD 1.5, 2.1 and XL, so that every CUDA kernel of the table is met, and every grid that it may launch.
std::vector<LayerAccesses> count_layers();

}  // namespace darkroom::testing

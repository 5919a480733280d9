// simt_accesses: how every CUDA kernel reaches memory on real layers, as the Markdown of a record.
#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "tests/simt/accesses/layers.h"

namespace {

using namespace darkroom;
using simt::AccessCount;

double ratio(const AccessCount& c) { return c.needed ? double(c.used) / double(c.needed) : 1.0; }

std::string cell(const AccessCount& c) {
  return c.instructions ? fmt::format("{} / {} | {:.2f}", c.used, c.needed, ratio(c)) : " | ";
}

constexpr const char* kHead = R"(# Sectors and wavefronts of the CUDA kernels on real layers, counted by the emulator

    build/release/bin/simt_accesses > bench/results/2026-12-01-simt-accesses.md

`tests/simt` runs the first, the middle and the last block of every grid that a layer launches, at the layer's full size, and takes what the lanes of
a warp do at one place in the source for one instruction. *Sectors*: of 32 bytes, that its addresses of global memory touch, against what its bytes would
fill. *Wavefronts*: times that shared memory's 32 banks are asked, against what its bytes would take. A sector read twice counts twice, whether or not a
cache has it: these are requests to L1, not bytes from L2. Nothing here is time, and nothing has run on a card.

The test `Accesses` of `simt_kernels_test` holds every grid below to 1.02 of what is needed, and those that are named at the end to what is said there.
)";

void print_grids(const std::vector<testing::LayerAccesses>& layers) {
  fmt::print("\n## By kernel and layer\n\n");
  fmt::print(
      "| grid | layer | sectors / needed | | wavefronts / needed | | shared memory |\n|---|---|---|---|---|---|---|\n");
  for (const testing::LayerAccesses& l : layers)
    for (const auto& [grid, r] : l.grids)
      fmt::print("| `{}` | {} | {} | {} | {:.1f} KB |\n", grid, l.layer, cell(r.global), cell(r.shared),
                 double(r.shared_bytes) / 1024);
}

// Each place of a grid, over all layers.
void print_lines(const std::vector<testing::LayerAccesses>& layers) {
  struct Grid {
    AccessCount all;
    std::map<std::string, AccessCount> lines;
  };
  std::map<std::string, Grid> grids;
  const auto add = [](AccessCount& to, const AccessCount& c) {
    to.instructions += c.instructions;
    to.needed += c.needed;
    to.used += c.used;
  };
  for (const testing::LayerAccesses& l : layers)
    for (const auto& [name, r] : l.grids) {
      add(grids[name].all, r.global);
      for (const auto& [line, c] : r.global_by_line) add(grids[name].lines[line], c);
    }
  fmt::print(
      "\n## By place in the source, all layers of a grid together\n\nPlaces of less than 1 % of a grid's sectors "
      "that waste none are left out.\n\n");
  fmt::print("| grid | place | instructions | sectors / needed | | of the grid's |\n|---|---|---|---|---|---|\n");
  for (const auto& [name, grid] : grids) {
    std::vector<std::pair<std::string, AccessCount>> lines(grid.lines.begin(), grid.lines.end());
    std::ranges::sort(lines, [](const auto& a, const auto& b) { return a.second.used > b.second.used; });
    for (const auto& [line, c] : lines) {
      const double share = double(c.used) / double(grid.all.used);
      if (share < 0.01 && c.used == c.needed) continue;
      fmt::print("| `{}` | {} | {} | {} | {:.1f} % |\n", name, line, c.instructions, cell(c), 100 * share);
    }
  }
}

void print_bars() {
  fmt::print(
      "\n## What may take more, and why\n\n| grid | layer | sectors | wavefronts | why |\n|---|---|---|---|---|\n");
  for (const testing::AccessBar& bar : testing::access_bars())
    fmt::print("| `{}` | {} | {:.2f} | {:.2f} | {} |\n", bar.grid, bar.layer.empty() ? "all" : bar.layer, bar.global,
               bar.shared, bar.why);
}

}  // namespace

int main() {
  const std::vector<testing::LayerAccesses> layers = testing::count_layers();
  std::fputs(kHead, stdout);
  print_grids(layers);
  print_lines(layers);
  print_bars();
}

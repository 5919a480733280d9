// Every CUDA kernel on real layers: global memory in whole sectors, shared memory without bank conflicts, but where
// access_bars() has a reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "tests/simt/accesses/layers.h"

namespace darkroom::testing {
namespace {

double ratio(const simt::AccessCount& c) { return double(c.used) / double(c.needed); }

// What every chip from sm_80 on gives a block: sm_86, 89 and 120 have the least.
constexpr size_t kSharedOfAnyChip = 99 * 1024;

TEST(Accesses, EveryKernelTakesWholeSectors) {
  std::set<const KernelDef*> kernels;
  std::set<std::string> grids;
  std::map<const AccessBar*, std::pair<double, double>> most;
  for (const LayerAccesses& l : count_layers()) {
    kernels.insert(l.kernel);
    EXPECT_FALSE(l.grids.empty()) << l.layer;
    for (const auto& [grid, report] : l.grids) {
      SCOPED_TRACE(grid + ", " + l.layer);
      grids.insert(grid);
      ASSERT_GT(report.global.needed, 0u);
      const double global = ratio(report.global), shared = report.shared.needed ? ratio(report.shared) : 1.0;
      const AccessBar* bar = bar_of(grid, l.layer);
      EXPECT_LE(global, bar ? bar->global : kWhole) << simt::report_text(grid, report);
      EXPECT_LE(shared, bar ? bar->shared : kWhole) << simt::report_text(grid, report);
      EXPECT_LE(report.shared_bytes, kSharedOfAnyChip);
      auto& [most_global, most_shared] = most[bar];
      most_global = std::max(most_global, global);
      most_shared = std::max(most_shared, shared);
    }
  }
  // A bar that nothing comes near hides what gets worse, and tells of what is no more.
  for (const AccessBar& bar : access_bars()) {
    ASSERT_TRUE(most.contains(&bar)) << bar.grid << ", " << bar.layer << ": no layer is meant";
    EXPECT_TRUE(bar.global == kWhole || most[&bar].first > 0.98 * bar.global) << bar.grid << ", " << bar.layer;
    EXPECT_TRUE(bar.shared == kWhole || most[&bar].second > 0.98 * bar.shared) << bar.grid << ", " << bar.layer;
  }
  for (const KernelDef* kernel : cuda_kernels())
    EXPECT_TRUE(kernels.contains(kernel)) << op_def(kernel->op).name << " " << kernel->variant << ": no layer runs it";
  for (const char* grid :
       {"gemm_mma_256x128", "gemm_mma_128x128", "gemm_mma_128x64", "gemm_mma_64x64", "gemm_reduce_splits",
        "gemm_reduce_splits_and_moments", "group_norm_combine", "attention_flash_40", "attention_flash_64",
        "attention_flash_80", "attention_flash_160", "attention_fma_64", "attention_fma_160", "attention_fma_512"})
    EXPECT_TRUE(grids.contains(grid)) << grid << ": no layer launches it";
}

}  // namespace
}  // namespace darkroom::testing

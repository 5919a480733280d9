// The layouts of shared memory that are made so that no bank is asked twice.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <simt/report.h>

#include "kernels/core/mma_plan.h"
#include "tests/support/kernel_call.h"

namespace darkroom::testing {
namespace {

// `allowed`: wavefronts for each that is needed.
void expect_no_conflicts(const CallMemory& call, const KernelDef& kernel, const std::string& grid, double allowed = 1) {
  simt::reports().clear();
  ASSERT_FALSE(call.rejected_by(kernel));
  call.run(kernel, 1);
  const simt::KernelReport& report = simt::reports().at(grid);
  EXPECT_GT(report.shared.instructions, 100u);
  EXPECT_LE(double(report.shared.used), allowed * double(report.shared.needed)) << simt::report_text(grid, report);
}

template <MmaTile kTile>
void expect_no_conflicts_in_tile(const std::string& grid) {
  CallMemory call(GemmAttrs{});
  call.fill(GemmAttrs::kA, {1, 256, 128}, DType::bf16);
  call.fill(GemmAttrs::kWeight, {128, 128}, DType::bf16, 0.1f);
  call.set_output(DType::bf16);
  KernelDef kernel = *find_kernel(OpKind::gemm, "sm80_mma_bf16");
  kernel.enqueue = [](const KernelCall& c, const Stream& stream) {
    cuda::enqueue_mma(gemm_call(c), {kTile, 1}, c.packed, c.scratch, stream);
  };
  expect_no_conflicts(call, kernel, grid);
}

// The ring and the slices of the epilogue.
TEST(BankConflicts, NoneInGemms) {
  expect_no_conflicts_in_tile<MmaTile::huge>("gemm_mma_256x128");
  expect_no_conflicts_in_tile<MmaTile::large>("gemm_mma_128x128");
  expect_no_conflicts_in_tile<MmaTile::medium>("gemm_mma_128x64");
  expect_no_conflicts_in_tile<MmaTile::small>("gemm_mma_64x64");
}

// None where matrices are read. Rows of 10 or 20 chunks with a gap of one after each: eight copies that cross a row meet.
TEST(BankConflicts, FewInAttention) {
  for (const int64_t d : {40, 64, 80, 160, 512}) {
    AttentionAttrs attrs;
    attrs.heads = 1;
    CallMemory call(attrs);
    for (int slot : {AttentionAttrs::kQ, AttentionAttrs::kK, AttentionAttrs::kV})
      call.fill(slot, {1, 64, d}, DType::bf16);
    call.set_output(DType::bf16);
    expect_no_conflicts(call, *find_kernel(OpKind::attention, d == 512 ? "sm80_flash_wide" : "sm80_flash"),
                        fmt::format("attention_flash_{}", d), d == 80 || d == 160 ? 1.2 : 1);
  }
}

}  // namespace
}  // namespace darkroom::testing

// Flash attention with products of bf16 on AMX: tiles of 32 queries, D and keys padded with zeros to multiples of 32.
//
// For 32 queries × 256 keys at D = 40 (64 as computed) the tiles need 1024 cycles for S and as many for P V; the exponentials, 512
// vectors, take longer and bound it: NOTES.md.
#include "kernels/attention/bf16_flash.h"
#include "kernels/core/gemm_core_amx_bf16.h"

namespace darkroom::kernels {
namespace {

using namespace bf16_flash;
using gemm_amx_bf16::Pairs;

struct Tile {
  static constexpr int64_t kMr = gemm_amx::kMr, kUnit = Pairs::kUnit, kColumns = gemm_amx::kNr;
  static constexpr int64_t kQueryRow = kMaxHeadDim + 32;  // 17 cache lines, odd, spreads the sets
  static constexpr int64_t kWeightRow = kMaxKeys + 32;    // 9 cache lines

  // So that O takes half a MiB of L2's two, and packing K and V little of the time.
  static int64_t max_block(int64_t columns) { return larger(smaller((128 << 10) / columns, 512) / kMr * kMr, kMr); }
  static auto scores(int64_t rows) { return gemm_amx::micro_kernel_of<Pairs, kQueryRow>(rows); }
  static auto sums(int64_t rows, int64_t) { return gemm_amx::micro_kernel_of<Pairs, kWeightRow>(rows); }
};

void launch_with_tiles(const KernelCall& call, const Team& team) {
  const gemm_amx::Tiles tiles;
  launch<Tile>(call, team);
}

}  // namespace

extern const KernelDef attention_amx_bf16_flash;
const KernelDef attention_amx_bf16_flash = {
    .op = OpKind::attention,
    .variant = "amx_bf16_flash",
    .isa = Isa::amx,
    .reject = reject,
    .scratch_bytes = scratch_bytes<Tile>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_with_tiles,
};

}  // namespace darkroom::kernels

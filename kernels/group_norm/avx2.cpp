// group_norm, group_norm_silu and group_norm_stats on AVX2: group_norm_on_simd.h.
#include "kernels/core/simd_avx2.h"
#include "kernels/group_norm/group_norm_on_simd.h"

namespace darkroom::kernels {

extern const KernelDef group_norm_avx2, group_norm_silu_avx2, group_norm_stats_avx2;
const KernelDef group_norm_avx2 = kernel_of<simd::Lanes, GroupNormAttrs>(OpKind::group_norm, "avx2", Isa::avx2);
const KernelDef group_norm_silu_avx2 =
    kernel_of<simd::Lanes, GroupNormSiluAttrs>(OpKind::group_norm_silu, "avx2", Isa::avx2);
const KernelDef group_norm_stats_avx2 =
    kernel_of<simd::Lanes, GroupNormStatsAttrs>(OpKind::group_norm_stats, "avx2", Isa::avx2);

}  // namespace darkroom::kernels

// group_norm, group_norm_silu and group_norm_stats on AVX-512: group_norm_on_simd.h.
#include "kernels/core/simd_avx512.h"
#include "kernels/group_norm/group_norm_on_simd.h"

namespace darkroom::kernels {

extern const KernelDef group_norm_avx512, group_norm_silu_avx512, group_norm_stats_avx512;
const KernelDef group_norm_avx512 =
    kernel_of<simd512::Lanes, GroupNormAttrs>(OpKind::group_norm, "avx512", Isa::avx512);
const KernelDef group_norm_silu_avx512 =
    kernel_of<simd512::Lanes, GroupNormSiluAttrs>(OpKind::group_norm_silu, "avx512", Isa::avx512);
const KernelDef group_norm_stats_avx512 =
    kernel_of<simd512::Lanes, GroupNormStatsAttrs>(OpKind::group_norm_stats, "avx512", Isa::avx512);

}  // namespace darkroom::kernels

// conv2d 3×3 of a picture enlarged twice, as four 2×2 convolutions (subpixel.h) with products of bf16 on AMX: direct_on_amx.h.
#include "kernels/conv2d/direct_on_amx.h"

namespace darkroom::kernels {

extern const KernelDef conv2d_amx_bf16_subpixel;
const KernelDef conv2d_amx_bf16_subpixel = direct_on_amx::Kernel<true>::definition(OpKind::conv2d);

}  // namespace darkroom::kernels

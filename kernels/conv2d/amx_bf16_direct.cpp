// conv2d and norm_conv2d of stride 1 with products of bf16 on AMX: direct_on_amx.h.
#include "kernels/conv2d/direct_on_amx.h"

namespace darkroom::kernels {

using Direct = direct_on_amx::Kernel<false>;

extern const KernelDef conv2d_amx_bf16_direct, norm_conv2d_amx_bf16_direct;
const KernelDef conv2d_amx_bf16_direct = Direct::definition(OpKind::conv2d);
const KernelDef norm_conv2d_amx_bf16_direct = Direct::definition(OpKind::norm_conv2d);

}  // namespace darkroom::kernels

// The definition of nearest-neighbour upsampling.
#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  if (call.in[UpsampleAttrs::kX].dtype != call.out.dtype) return "x and out must be of one dtype";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const TensorView& x = call.in[UpsampleAttrs::kX];
  const int64_t H = x.shape[1], W = x.shape[2], C = x.channels(), OH = call.out.shape[1], OW = call.out.shape[2];
  const auto [first, last] = team.range(call.out.rows());
  for (int64_t r = first; r < last; ++r) {
    const int64_t b = r / (OH * OW), oy = r / OW % OH, ox = r % OW;
    const int64_t in = b * x.stride[0] + (oy * H / OH) * x.stride[1] + (ox * W / OW) * x.stride[2];
    const int64_t out = ref_row_offset(call.out, r);
    for (int64_t c = 0; c < C; ++c) ref_store(call.out, out + c, ref_load(x, in + c));
  }
}

}  // namespace

extern const KernelDef upsample_ref;
const KernelDef upsample_ref = {
    .op = OpKind::upsample,
    .variant = "ref",
    .isa = Isa::baseline,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

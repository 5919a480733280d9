// Rows of channels are copied whole: memcpy is as fast as memory here.
#include <cstring>

#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  if (call.in[UpsampleAttrs::kX].dtype != call.out.dtype) return "x and out must be of one dtype";
  return nullptr;
}

void launch(const KernelCall& call, const Team& team) {
  const TensorView &x = call.in[UpsampleAttrs::kX], &out = call.out;
  const int64_t H = x.shape[1], W = x.shape[2], OH = out.shape[1], OW = out.shape[2];
  const int64_t size = int64_t(dtype_size(out.dtype)), pixel = x.channels() * size;
  const auto [first, last] = team.range(out.shape[0] * OH);  // lines
  for (int64_t line = first; line < last; ++line) {
    const int64_t b = line / OH, y = line % OH;
    const char* source = x.as<char>() + (b * x.stride[0] + y * H / OH * x.stride[1]) * size;
    char* target = out.as<char>() + (b * out.stride[0] + y * out.stride[1]) * size;
    for (int64_t column = 0; column < OW; ++column)
      memcpy(target + column * out.stride[2] * size, source + column * W / OW * x.stride[2] * size, size_t(pixel));
  }
}

}  // namespace

extern const KernelDef upsample_avx2;
const KernelDef upsample_avx2 = {
    .op = OpKind::upsample,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

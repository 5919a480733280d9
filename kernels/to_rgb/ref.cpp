// The definition of to_rgb.
#include <cmath>

#include "kernels/core/kernel.h"
#include "kernels/core/ref_element.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall&) { return nullptr; }

void launch(const KernelCall& call, const Team& team) {
  const TensorView& x = call.in[ToRgbAttrs::kX];
  const auto& attrs = call.attributes<ToRgbAttrs>();
  const int64_t width = x.channels();
  const auto [first, last] = team.range(x.rows());
  for (int64_t r = first; r < last; ++r)
    for (int64_t c = 0; c < width; ++c) {
      const float v = float(ref_load(x, ref_row_offset(x, r) + c)) * attrs.scale + attrs.shift;
      const float level = v > 0 ? (v < 1 ? v : 1.0f) : 0.0f;  // NaN is not > 0
      call.out.as<uint8_t>()[r * width + c] = uint8_t(std::nearbyint(level * 255.0f));
    }
}

}  // namespace

extern const KernelDef to_rgb_ref;
const KernelDef to_rgb_ref = {
    .op = OpKind::to_rgb,
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

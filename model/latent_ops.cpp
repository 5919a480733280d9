#include "model/latent_ops.h"

#include "kernels/core/error.h"

namespace darkroom {

LatentOps::LatentOps(Session& session, int64_t elements)
    : session_(session), shape_{elements}, attrs_(SamplerUpdateAttrs{}) {
  KernelCall call;
  call.attrs = &attrs_;
  call.in[SamplerUpdateAttrs::kCoefficients] = TensorView::dense(nullptr, DType::f32, Shape{1});
  call.in[SamplerUpdateAttrs::kFirst] = TensorView::dense(nullptr, DType::f32, shape_);
  call.out = TensorView::dense(nullptr, DType::f32, shape_);
  kernel_ = select_kernel(call, session.select_options(), "latents").kernel;
}

void LatentOps::combine(std::span<const float> coefficients, std::span<float* const> inputs, float* out) {
  if (inputs.empty() || inputs.size() != coefficients.size() ||
      inputs.size() > size_t(kMaxInputs - SamplerUpdateAttrs::kFirst))
    throw internal_error("latents: {} inputs, {} coefficients", inputs.size(), coefficients.size());
  KernelCall call;
  call.attrs = &attrs_;
  call.in[SamplerUpdateAttrs::kCoefficients] =
      TensorView::dense(const_cast<float*>(coefficients.data()), DType::f32, Shape{int64_t(coefficients.size())});
  for (size_t i = 0; i < inputs.size(); ++i)
    call.in[SamplerUpdateAttrs::kFirst + int(i)] = TensorView::dense(inputs[i], DType::f32, shape_);
  call.out = TensorView::dense(out, DType::f32, shape_);
  session_.backend().run(*kernel_, call);
}

}  // namespace darkroom

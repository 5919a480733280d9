// cuDNN: NHWC convolutions with a bias, and its fused attention.
#include "bench/kernels/libraries.h"

#ifndef DARKROOM_CUDNN

namespace darkroom::bench {
Library load_cudnn() { return {"cuDNN", "", "not found by CMake (NVIDIA's packages, or the nvidia-cudnn wheels)", {}}; }
}  // namespace darkroom::bench

#else

#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <map>
#include <optional>

#include "bench/kernels/cudnn_graph.h"
#include "bench/kernels/gpu_weights.h"
#include "kernels/core/error.h"

namespace darkroom::bench {

namespace {

cudnnHandle_t handle = nullptr;

enum Id : int64_t { kX = 1, kWeight, kProduct, kBias, kOut, kQ, kK, kV, kScale };

struct Prepared {
  CudnnPlan plan;
  void* workspace = nullptr;  // held until the program ends

  explicit Prepared(CudnnPlan made) : plan(std::move(made)) {
    if (plan.workspace_bytes() > 0 && cudaMalloc(&workspace, plan.workspace_bytes()) != cudaSuccess)
      throw resource_error("no memory for cuDNN's work ({} MiB)", plan.workspace_bytes() >> 20);
  }
};

// A picture [B, H, W, C] in cuDNN's order of dimensions, which is B, C, H, W whatever lies where.
Descriptor picture(int64_t id, const TensorView& v, DType type, TensorKind kind = TensorKind::memory) {
  return tensor(id, type, {v.shape[0], v.shape[3], v.shape[1], v.shape[2]}, {v.stride[0], 1, v.stride[1], v.stride[2]},
                kind);
}

CudnnPlan plan_conv2d(const KernelCall& call) {
  const auto& a = call.attributes<Conv2dAttrs>();
  const TensorView &x = call.in[Conv2dAttrs::kX], &out = call.out;
  const Shape& w = call.in[Conv2dAttrs::kWeight].shape;
  const int64_t side = a.kernel;
  const Descriptor source = picture(kX, x, x.dtype), result = picture(kOut, out, out.dtype);
  const Descriptor weight =
      tensor(kWeight, x.dtype, {w[0], w[1], side, side}, {w[1] * side * side, 1, w[1] * side, w[1]});
  const Descriptor product = picture(kProduct, out, DType::f32, TensorKind::between);
  const Descriptor bias = tensor(kBias, DType::f32, {1, w[0], 1, 1}, {w[0], 1, w[0], w[0]});

  const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
  const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  Descriptor convolution(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
  convolution.set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32)
      .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode)
      .set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2)
      .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, {a.pad_top, a.pad_left})
      .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, {a.pad_bottom, a.pad_right})
      .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, {a.stride, a.stride})
      .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, {1, 1})
      .finalize();
  const float one = 1, zero = 0;
  Descriptor forward(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
  forward.set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, convolution)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, source)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, weight)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, product)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one)
      .set(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero)
      .finalize();
  const cudnnPointwiseMode_t plus = CUDNN_POINTWISE_ADD;
  Descriptor pointwise(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  pointwise.set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &plus)
      .set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &f32)
      .finalize();
  Descriptor add(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  add.set(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, product)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_BDESC, bias)
      .set(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, result)
      .finalize();
  return CudnnPlan(handle, {&forward, &add});
}

// [B, N, heads · D] as B, heads, N, D.
Descriptor heads_of(int64_t id, const TensorView& v, int64_t heads) {
  const int64_t dim = v.channels() / heads;
  return tensor(id, v.dtype, {v.shape[0], heads, v.shape[1], dim}, {v.stride[0], dim, v.stride[1], 1});
}

CudnnPlan plan_attention(const KernelCall& call) {
  using S = AttentionAttrs;
  const int64_t heads = call.attributes<S>().heads;
  const Descriptor q = heads_of(kQ, call.in[S::kQ], heads), k = heads_of(kK, call.in[S::kK], heads),
                   v = heads_of(kV, call.in[S::kV], heads), out = heads_of(kOut, call.out, heads);
  const Descriptor scale = tensor(kScale, DType::f32, {1, 1, 1, 1}, {1, 1, 1, 1}, TensorKind::scalar);
  Descriptor attention(CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
  attention.set(CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q)
      .set(CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k)
      .set(CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v)
      .set(CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, out)
      .set(CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale)
      .finalize();
  return CudnnPlan(handle, {&attention});
}

// What was prepared, by everything that it depends on. Null where cuDNN has no plan for this.
Prepared* prepared(const KernelCall& call) {
  static std::map<std::string, std::unique_ptr<Prepared>> cache;
  std::string key = fmt::format("{} {}", int(op_kind(*call.attrs)), describe(*call.attrs, call.in));
  const auto add_view = [&](const TensorView& v) {
    key += fmt::format(" {}:{}", v.shape.to_string(), dtype_name(v.dtype));
    for (int i = 0; i < v.rank(); ++i) key += fmt::format(",{}", v.stride[size_t(i)]);
  };
  for (const TensorView& v : call.in)
    if (v.present()) add_view(v);
  add_view(call.out);
  if (const auto* conv = std::get_if<Conv2dAttrs>(call.attrs))
    key += fmt::format(" {} {} {} {}", conv->pad_top, conv->pad_left, conv->pad_bottom, conv->pad_right);
  const auto [at, is_new] = cache.try_emplace(key);
  if (is_new) try {
      at->second =
          std::make_unique<Prepared>(op_kind(*call.attrs) == OpKind::conv2d ? plan_conv2d(call) : plan_attention(call));
    } catch (const CudnnError&) {
      at->second = nullptr;  // it does not do this here
    }
  return at->second.get();
}

const char* reject_conv2d(const KernelCall& call) {
  const auto& a = call.attributes<Conv2dAttrs>();
  if (!call.in[Conv2dAttrs::kBias].present()) return "wants a bias";
  if (a.int8) return "it is not asked for int8";
  if (call.in[Conv2dAttrs::kX2].present() || a.upsample_height > 0) return "one source, not enlarged";
  if (!(a.epilogue == Epilogue{}) || call.in[Conv2dAttrs::kRowBias].present() ||
      call.in[Conv2dAttrs::kResidual].present())
    return "compared with a bias alone";
  return prepared(call) ? nullptr : "cuDNN has no plan for this";
}
const char* reject_attention(const KernelCall& call) {
  if (call.attributes<AttentionAttrs>().causal) return "it is not asked for a causal mask";
  return prepared(call) ? nullptr : "cuDNN has no plan for this";
}

// [N, K, K, C] in the type of x.
size_t packed_bytes(const KernelCall& call) {
  return size_t(call.in[Conv2dAttrs::kWeight].shape.elements()) * dtype_size(call.in[Conv2dAttrs::kX].dtype);
}
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const TensorView& weight = parts[0];
  const int64_t channels = weight.shape[1], taps = weight.shape[2] * weight.shape[3];
  const auto [begin, end] = team.range(weight.shape[0]);
  for (int64_t n = begin; n < end; ++n)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t tap = 0; tap < taps; ++tap)
        put(packed, call.in[Conv2dAttrs::kX].dtype, (n * taps + tap) * channels + c,
            element(weight, (n * channels + c) * taps + tap));
  team.sync();
}

void run(const KernelCall& call, const Stream& stream, const std::vector<int64_t>& ids,
         const std::vector<void*>& pointers) {
  Prepared& p = *prepared(call);
  try {
    cudnnSetStream(handle, static_cast<cudaStream_t>(stream.handle));
    p.plan.run(handle, ids, pointers, p.workspace);
  } catch (const CudnnError& e) {
    throw internal_error("cuDNN: {}", cudnnGetErrorString(e.status));
  }
}
void enqueue_conv2d(const KernelCall& call, const Stream& stream) {
  run(call, stream, {kX, kWeight, kBias, kOut},
      {call.in[Conv2dAttrs::kX].data, const_cast<void*>(call.packed), call.in[Conv2dAttrs::kBias].data, call.out.data});
}
void enqueue_attention(const KernelCall& call, const Stream& stream) {
  using S = AttentionAttrs;
  float scale = call.attributes<S>().scale;
  run(call, stream, {kQ, kK, kV, kOut, kScale},
      {call.in[S::kQ].data, call.in[S::kK].data, call.in[S::kV].data, call.out.data, &scale});
}

constexpr KernelDef kConvolution = {.op = OpKind::conv2d,
                                    .variant = "cudnn",
                                    .isa = Isa::sm80,
                                    .reject = reject_conv2d,
                                    .scratch_bytes = nullptr,
                                    .pack_format = "cudnn",
                                    .packed_bytes = packed_bytes,
                                    .pack = pack,
                                    .enqueue = enqueue_conv2d};
constexpr KernelDef kAttention = {.op = OpKind::attention,
                                  .variant = "cudnn",
                                  .isa = Isa::sm80,
                                  .reject = reject_attention,
                                  .scratch_bytes = nullptr,
                                  .pack_format = {},
                                  .packed_bytes = nullptr,
                                  .pack = nullptr,
                                  .enqueue = enqueue_attention};

}  // namespace

Library load_cudnn() {
  Library library{"cuDNN", "", "", {}};
  if (const cudnnStatus_t status = cudnnCreate(&handle); status != CUDNN_STATUS_SUCCESS) {
    library.missing = cudnnGetErrorString(status);
    return library;
  }
  library.version = std::to_string(cudnnGetVersion());
  library.kernels = {&kConvolution, &kAttention};
  return library;
}

}  // namespace darkroom::bench

#endif

// cuBLASLt: products with a bias, and 1×1 convolutions as such; the first algorithm of its heuristic, as frameworks take it.
#include "bench/kernels/libraries.h"

#ifndef DARKROOM_CUBLASLT

namespace darkroom::bench {
Library load_cublaslt() { return {"cuBLASLt", "", "not found by CMake (it comes with the CUDA toolkit)", {}}; }
}  // namespace darkroom::bench

#else

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <map>
#include <memory>
#include <optional>

#include "bench/kernels/gpu_weights.h"
#include "kernels/core/error.h"

namespace darkroom::bench {

namespace {

constexpr size_t kWorkspaceBytes = size_t(64) << 20;

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw internal_error("cuBLASLt: {}: {}", what, cublasLtGetStatusString(status));
}

cublasLtHandle_t handle = nullptr;
void* workspace = nullptr;

cudaDataType_t type_of(DType t) {
  if (t == DType::f32) return CUDA_R_32F;
  return t == DType::bf16 ? CUDA_R_16BF : CUDA_R_16F;
}

// out [M, N] = a [M, K] · weightᵀ, weight [N, K], + bias: in cuBLAS's columns outᵀ = weightᵀᵀ aᵀ.
struct Product {
  TensorView a, out;
  int64_t m, n, k;
  bool bias;
};
Product product_of(const KernelCall& call) {
  const bool gemm = op_kind(*call.attrs) == OpKind::gemm;
  const TensorView& a = call.in[gemm ? int(GemmAttrs::kA) : int(Conv2dAttrs::kX)];
  const Shape& weight = call.in[gemm ? int(GemmAttrs::kWeight) : int(Conv2dAttrs::kWeight)].shape;
  return {a,         call.out,  a.rows(),
          weight[0], weight[1], call.in[gemm ? int(GemmAttrs::kBias) : int(Conv2dAttrs::kBias)].present()};
}

struct Prepared {
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, a = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm;

  Prepared() = default;
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;
  ~Prepared() {
    cublasLtMatrixLayoutDestroy(weight);
    cublasLtMatrixLayoutDestroy(a);
    cublasLtMatrixLayoutDestroy(out);
    cublasLtMatmulDescDestroy(product);
  }
};

// Null where it has nothing for this.
std::unique_ptr<Prepared> prepare(const Product& p) {
  auto made = std::make_unique<Prepared>();
  const cudaDataType_t type = type_of(p.a.dtype);
  check(cublasLtMatmulDescCreate(&made->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "a product");
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulDescSetAttribute(made->product, attribute, &value, sizeof value), "an attribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_N);
  if (p.bias) set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
  check(cublasLtMatrixLayoutCreate(&made->weight, type, uint64_t(p.k), uint64_t(p.n), p.k), "a layout");
  check(cublasLtMatrixLayoutCreate(&made->a, type, uint64_t(p.k), uint64_t(p.m), p.a.row_stride()), "a layout");
  check(cublasLtMatrixLayoutCreate(&made->out, type_of(p.out.dtype), uint64_t(p.n), uint64_t(p.m), p.out.row_stride()),
        "a layout");
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "a preference");
  cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspaceBytes,
                                       sizeof kWorkspaceBytes);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, made->product, made->weight, made->a, made->out,
                                                               made->out, preference, 1, &found, &count);
  cublasLtMatmulPreferenceDestroy(preference);
  if (status != CUBLAS_STATUS_SUCCESS || count == 0) return nullptr;
  made->algorithm = found.algo;
  return made;
}

Prepared* prepared(const KernelCall& call) {
  static std::map<std::string, std::unique_ptr<Prepared>> cache;
  const Product p = product_of(call);
  const std::string key = fmt::format("{} {} {} {} {} {} {} {}", p.m, p.n, p.k, p.a.row_stride(), p.out.row_stride(),
                                      dtype_name(p.a.dtype), dtype_name(p.out.dtype), p.bias);
  const auto [at, is_new] = cache.try_emplace(key);
  if (is_new) at->second = prepare(p);
  return at->second.get();
}

const char* reject_product(const KernelCall& call, const Epilogue& epilogue, const TensorView& row_bias,
                           const TensorView& residual) {
  const Product p = product_of(call);
  if (!(epilogue == Epilogue{}) || row_bias.present() || residual.present()) return "compared with a bias alone";
  if (!p.a.rows_uniform() || !p.out.rows_uniform()) return "the rows of A and out must lie at one distance";
  if (p.a.dtype != p.out.dtype) return "A and out must be of one dtype";
  return prepared(call) ? nullptr : "cuBLASLt has no algorithm for this";
}
const char* reject_gemm(const KernelCall& call) {
  const auto& attrs = call.attributes<GemmAttrs>();
  if (attrs.int8) return "it is not asked for int8";
  return reject_product(call, attrs.epilogue, call.in[GemmAttrs::kRowBias], call.in[GemmAttrs::kResidual]);
}
const char* reject_conv2d(const KernelCall& call) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  if (attrs.kernel != 1 || attrs.stride != 1 || attrs.upsample_height > 0 || call.in[Conv2dAttrs::kX2].present())
    return "has no convolution: 1x1 of one source is a product";
  return reject_product(call, attrs.epilogue, call.in[Conv2dAttrs::kRowBias], call.in[Conv2dAttrs::kResidual]);
}

// The weight [N, K] in the type of A, then the bias in it.
size_t bias_offset(const Product& p) { return (size_t(p.n * p.k) * dtype_size(p.a.dtype) + 255) / 256 * 256; }
size_t packed_bytes(const KernelCall& call) {
  const Product p = product_of(call);
  return bias_offset(p) + size_t(p.n) * dtype_size(p.a.dtype);
}
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  const Product p = product_of(call);
  if (team.index == 0) {
    int64_t at = 0;
    for (const TensorView& part : parts) at = convert(part, p.a.dtype, packed, at);
    const bool gemm = op_kind(*call.attrs) == OpKind::gemm;
    if (p.bias)
      convert(call.in[gemm ? int(GemmAttrs::kBias) : int(Conv2dAttrs::kBias)], p.a.dtype,
              static_cast<std::byte*>(packed) + bias_offset(p), 0);
  }
  team.sync();
}

void enqueue(const KernelCall& call, const Stream& stream) {
  const Product p = product_of(call);
  Prepared& prepared_product = *prepared(call);
  const float one = 1, zero = 0;
  if (p.bias) {
    const void* bias = static_cast<const std::byte*>(call.packed) + bias_offset(p);
    check(
        cublasLtMatmulDescSetAttribute(prepared_product.product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias),
        "the bias");
  }
  check(
      cublasLtMatmul(handle, prepared_product.product, &one, call.packed, prepared_product.weight, p.a.data,
                     prepared_product.a, &zero, p.out.data, prepared_product.out, p.out.data, prepared_product.out,
                     &prepared_product.algorithm, workspace, kWorkspaceBytes, static_cast<cudaStream_t>(stream.handle)),
      "a product");
}

constexpr KernelDef entry(OpKind op) {
  return {.op = op,
          .variant = "cublaslt",
          .isa = Isa::sm80,
          .reject = op == OpKind::gemm ? reject_gemm : reject_conv2d,
          .scratch_bytes = nullptr,
          .pack_format = "cublaslt",
          .packed_bytes = packed_bytes,
          .pack = pack,
          .enqueue = enqueue};
}
constexpr KernelDef kGemm = entry(OpKind::gemm), kConv = entry(OpKind::conv2d);

}  // namespace

Library load_cublaslt() {
  Library library{"cuBLASLt", "", "", {}};
  if (const cublasStatus_t status = cublasLtCreate(&handle); status != CUBLAS_STATUS_SUCCESS) {
    library.missing = cublasLtGetStatusString(status);
    return library;
  }
  if (cudaMalloc(&workspace, kWorkspaceBytes) != cudaSuccess) {
    library.missing = fmt::format("no {} MiB of work memory on the GPU", kWorkspaceBytes >> 20);
    return library;
  }
  library.version = std::to_string(cublasLtGetVersion());
  library.kernels = {&kGemm, &kConv};
  return library;
}

}  // namespace darkroom::bench

#endif

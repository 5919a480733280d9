// OpenBLAS and BLIS: sgemm for linear layers and 1×1 convolutions. Both define the same names, so they are loaded side by
// side at run time, each with its names to itself.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "bench/kernels/libraries.h"

namespace darkroom::bench {

namespace {

// The C interface that both have (CBLAS; 32-bit integers).
constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112;
using Sgemm = void (*)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float* a, int lda,
                       const float* b, int ldb, float beta, float* c, int ldc);

Sgemm openblas_sgemm = nullptr, blis_sgemm = nullptr;

// A product: rows of A times a dense weight [N, K].
struct Product {
  TensorView a, bias, out;
  int64_t n, k;
};

Product product_of(const KernelCall& call) {
  if (op_kind(*call.attrs) == OpKind::gemm) {
    const Shape& weight = call.in[GemmAttrs::kWeight].shape;
    return {call.in[GemmAttrs::kA], call.in[GemmAttrs::kBias], call.out, weight[0], weight[1]};
  }
  const Shape& weight = call.in[Conv2dAttrs::kWeight].shape;
  return {call.in[Conv2dAttrs::kX], call.in[Conv2dAttrs::kBias], call.out, weight[0], weight[1]};
}

const char* reject_product(const KernelCall& call, const Epilogue& epilogue, const TensorView& row_bias,
                           const TensorView& residual) {
  const Product p = product_of(call);
  if (p.a.dtype != DType::f32 || p.out.dtype != DType::f32) return "f32 only";
  if (!(epilogue == Epilogue{}) || row_bias.present() || residual.present()) return "has a bias, and no other epilogue";
  if (!p.a.rows_uniform() || !p.out.rows_uniform()) return "the rows of A and out must lie at one distance";
  return nullptr;
}

const char* reject_gemm(const KernelCall& call) {
  return reject_product(call, call.attributes<GemmAttrs>().epilogue, call.in[GemmAttrs::kRowBias],
                        call.in[GemmAttrs::kResidual]);
}

const char* reject_conv2d(const KernelCall& call) {
  const auto& attrs = call.attributes<Conv2dAttrs>();
  if (attrs.kernel != 1 || attrs.stride != 1 || attrs.upsample_height > 0 || call.in[Conv2dAttrs::kX2].present())
    return "has no convolution: 1x1 of one source is a product";
  return reject_product(call, attrs.epilogue, call.in[Conv2dAttrs::kRowBias], call.in[Conv2dAttrs::kResidual]);
}

size_t packed_bytes(const KernelCall& call) {
  const Product p = product_of(call);
  return size_t(p.n * p.k) * sizeof(float);
}

// The weight stays as it is, in f32.
void pack(const KernelCall&, std::span<const TensorView> parts, void* packed, const Team& team) {
  float* to = static_cast<float*>(packed);
  for (const TensorView& part : parts) {
    const int64_t n = part.shape.elements();
    const auto [first, last] = team.range(n);
    for (int64_t i = first; i < last; ++i) {
      if (part.dtype == DType::f32) to[i] = part.as<float>()[i];
      if (part.dtype == DType::f16) to[i] = to_float(part.as<f16_t>()[i]);
      if (part.dtype == DType::bf16) to[i] = to_float(part.as<bf16_t>()[i]);
    }
    to += n;
  }
  team.sync();
}

void launch(const KernelCall& call, const Team& team, Sgemm sgemm) {
  if (team.index != 0) return;
  const Product p = product_of(call);
  const int64_t m = p.a.rows();
  if (p.bias.present())
    for (int64_t r = 0; r < m; ++r) std::memcpy(p.out.row<float>(r), p.bias.data, size_t(p.n) * sizeof(float));
  sgemm(kRowMajor, kNoTrans, kTrans, int(m), int(p.n), int(p.k), 1.0f, p.a.as<float>(), int(p.a.row_stride()),
        static_cast<const float*>(call.packed), int(p.k), p.bias.present() ? 1.0f : 0.0f, p.out.as<float>(),
        int(p.out.row_stride()));
}

void launch_openblas(const KernelCall& call, const Team& team) { launch(call, team, openblas_sgemm); }
void launch_blis(const KernelCall& call, const Team& team) { launch(call, team, blis_sgemm); }

using Launch = void (*)(const KernelCall& call, const Team& team);
constexpr KernelDef entry(OpKind op, const char* variant, Launch run) {
  return {.op = op,
          .variant = variant,
          .isa = Isa::avx2,
          .reject = op == OpKind::gemm ? reject_gemm : reject_conv2d,
          .scratch_bytes = nullptr,
          .pack_format = "dense_f32",
          .packed_bytes = packed_bytes,
          .pack = pack,
          .launch = run};
}

[[maybe_unused]] constexpr KernelDef kOpenBlasGemm = entry(OpKind::gemm, "openblas", launch_openblas);
[[maybe_unused]] constexpr KernelDef kOpenBlasConv = entry(OpKind::conv2d, "openblas", launch_openblas);
[[maybe_unused]] constexpr KernelDef kBlisGemm = entry(OpKind::gemm, "blis", launch_blis);
[[maybe_unused]] constexpr KernelDef kBlisConv = entry(OpKind::conv2d, "blis", launch_blis);

template <typename Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

}  // namespace

Library load_openblas([[maybe_unused]] int threads) {
  Library library{"OpenBLAS", "", "not found by CMake (Debian: libopenblas-dev)", {}};
#ifdef DARKROOM_OPENBLAS
  // Someone's tuning of one program is not the library's own choice.
  unsetenv("OPENBLAS_CORETYPE");
  unsetenv("OPENBLAS_L2_SIZE");
  void* handle = dlopen(DARKROOM_OPENBLAS, RTLD_NOW | RTLD_LOCAL);
  if (handle) openblas_sgemm = symbol<Sgemm>(handle, "cblas_sgemm");
  if (!openblas_sgemm) {
    library.missing = dlerror();
    return library;
  }
  symbol<void (*)(int)>(handle, "openblas_set_num_threads")(threads);
  library.version = symbol<char* (*)()>(handle, "openblas_get_config")();
  library.version += std::string(", ") + symbol<char* (*)()>(handle, "openblas_get_corename")();
  library.kernels = {&kOpenBlasGemm, &kOpenBlasConv};
#endif
  return library;
}

Library load_blis([[maybe_unused]] int threads) {
  Library library{"BLIS", "", "not found by CMake (Debian: libblis-dev)", {}};
#ifdef DARKROOM_BLIS
  void* handle = dlopen(DARKROOM_BLIS, RTLD_NOW | RTLD_LOCAL);
  if (handle) blis_sgemm = symbol<Sgemm>(handle, "cblas_sgemm");
  if (!blis_sgemm) {
    library.missing = dlerror();
    return library;
  }
  symbol<void (*)(int64_t)>(handle, "bli_thread_set_num_threads")(threads);
  library.version = symbol<const char* (*)()>(handle, "bli_info_get_version_str")();
  const int arch = symbol<int (*)()>(handle, "bli_arch_query_id")();
  library.version += std::string(", ") + symbol<const char* (*)(int)>(handle, "bli_arch_string")(arch);
  library.kernels = {&kBlisGemm, &kBlisConv};
#endif
  return library;
}

}  // namespace darkroom::bench

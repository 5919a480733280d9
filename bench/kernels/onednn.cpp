// oneDNN: convolutions, and products both as matmul and as inner product, in the layouts that it asks for.
#include "bench/kernels/libraries.h"

#ifndef DARKROOM_ONEDNN

namespace darkroom::bench {
Library load_onednn(int) {
  return {"oneDNN", "", "not found by CMake (-DDARKROOM_ONEDNN_PREFIX, or Debian: libdnnl-dev)", {}};
}
}  // namespace darkroom::bench

#else

#include <dlfcn.h>
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>

#include "runtime/thread_pool.h"

namespace darkroom::bench {

namespace {

using dnnl::memory;
using Dims = memory::dims;
using Tag = memory::format_tag;

// A prepared primitive and the memory objects that it reads and writes; their handles are set before each run.
struct Prepared {
  dnnl::primitive primitive;
  memory source, weight, bias, out;
  memory::desc stored_weight;
  size_t weight_bytes = 0;
};

dnnl::engine& engine() {
  static dnnl::engine e(dnnl::engine::kind::cpu, 0);
  return e;
}
dnnl::stream& stream() {
  static dnnl::stream s(engine());
  return s;
}

memory::data_type type_of(DType t) {
  if (t == DType::f16) return memory::data_type::f16;
  return t == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
}

memory over(const memory::desc& desc) { return memory(desc, engine(), nullptr); }

struct Descs {
  memory::desc source, any_weight, stored_weight, bias, out;
};

// Kinds of use: the same product can be asked for in two ways.
enum class Way { convolution, matmul, inner_product };

Descs conv2d_descs(const KernelCall& call) {
  const auto nhwc = [](const TensorView& v) {
    return memory::desc({v.shape[0], v.shape[3], v.shape[1], v.shape[2]}, type_of(v.dtype), Tag::nhwc);
  };
  const TensorView &x = call.in[Conv2dAttrs::kX], &w = call.in[Conv2dAttrs::kWeight];
  const Dims dims = {w.shape[0], w.shape[1], w.shape[2], w.shape[3]};
  return {nhwc(x), memory::desc(dims, type_of(x.dtype), Tag::any), memory::desc(dims, type_of(w.dtype), Tag::oihw),
          memory::desc({w.shape[0]}, memory::data_type::f32, Tag::a), nhwc(call.out)};
}

Descs gemm_descs(const KernelCall& call, Way way) {
  const TensorView &a = call.in[GemmAttrs::kA], &w = call.in[GemmAttrs::kWeight];
  const int64_t m = a.rows(), n = w.shape[0], k = w.shape[1];
  const bool matmul = way == Way::matmul;
  const Dims dims = matmul ? Dims{k, n} : Dims{n, k};
  return {memory::desc({m, k}, type_of(a.dtype), Tag::ab), memory::desc(dims, type_of(a.dtype), Tag::any),
          memory::desc(dims, type_of(w.dtype), matmul ? Tag::ba : Tag::ab),
          memory::desc(matmul ? Dims{1, n} : Dims{n}, memory::data_type::f32, matmul ? Tag::ab : Tag::a),
          memory::desc({m, n}, type_of(call.out.dtype), Tag::ab)};
}

template <typename PrimitiveDesc, typename Primitive>
std::unique_ptr<Prepared> finish(const PrimitiveDesc& pd, const Descs& d) {
  auto p = std::make_unique<Prepared>();
  p->primitive = Primitive(pd);
  p->source = over(pd.src_desc());
  p->weight = over(pd.weights_desc());
  p->bias = over(d.bias);
  p->out = over(pd.dst_desc());
  p->stored_weight = d.stored_weight;
  p->weight_bytes = pd.weights_desc().get_size();
  if (std::string_view(pd.impl_info_str()).starts_with("ref")) return nullptr;
  return p;
}

std::unique_ptr<Prepared> prepare(const KernelCall& call, Way way) {
  constexpr auto kInference = dnnl::prop_kind::forward_inference;
  if (way == Way::convolution) {
    const auto& a = call.attributes<Conv2dAttrs>();
    const Descs d = conv2d_descs(call);
    const Dims stride = {a.stride, a.stride}, before = {a.pad_top, a.pad_left}, after = {a.pad_bottom, a.pad_right};
    constexpr auto kDirect = dnnl::algorithm::convolution_direct;
    using Convolution = dnnl::convolution_forward;
#if DNNL_VERSION_MAJOR >= 3
    const Convolution::primitive_desc pd(engine(), kInference, kDirect, d.source, d.any_weight, d.bias, d.out, stride,
                                         before, after);
#else
    const Convolution::primitive_desc pd(
        {kInference, kDirect, d.source, d.any_weight, d.bias, d.out, stride, before, after}, engine());
#endif
    return finish<Convolution::primitive_desc, Convolution>(pd, d);
  }
  const Descs d = gemm_descs(call, way);
  using InnerProduct = dnnl::inner_product_forward;
#if DNNL_VERSION_MAJOR >= 3
  if (way == Way::matmul)
    return finish<dnnl::matmul::primitive_desc, dnnl::matmul>({engine(), d.source, d.any_weight, d.bias, d.out}, d);
  return finish<InnerProduct::primitive_desc, InnerProduct>(
      {engine(), kInference, d.source, d.any_weight, d.bias, d.out}, d);
#else
  if (way == Way::matmul)
    return finish<dnnl::matmul::primitive_desc, dnnl::matmul>(
        {dnnl::matmul::desc(d.source, d.any_weight, d.bias, d.out), engine()}, d);
  return finish<InnerProduct::primitive_desc, InnerProduct>(
      {InnerProduct::desc(kInference, d.source, d.any_weight, d.bias, d.out), engine()}, d);
#endif
}

// What was prepared, by everything that it depends on. Null where oneDNN has nothing but its reference.
Prepared* prepared(const KernelCall& call, Way way) {
  static std::map<std::string, std::unique_ptr<Prepared>> cache;
  std::string key = fmt::format("{} {}", int(way), describe(*call.attrs, call.in));
  for (const TensorView& v : call.in)
    if (v.present()) key += fmt::format(" {}:{}", v.shape.to_string(), dtype_name(v.dtype));
  if (const auto* conv = std::get_if<Conv2dAttrs>(call.attrs))
    key += fmt::format(" {} {} {} {}", conv->pad_top, conv->pad_left, conv->pad_bottom, conv->pad_right);
  key += dtype_name(call.out.dtype);
  const auto [at, is_new] = cache.try_emplace(key);
  if (is_new) try {
      at->second = prepare(call, way);
    } catch (const dnnl::error&) {
      at->second = nullptr;  // it does not do this here
    }
  return at->second.get();
}

template <Way way>
const char* reject(const KernelCall& call) {
  const bool conv = way == Way::convolution;
  const TensorView& x = call.in[conv ? int(Conv2dAttrs::kX) : int(GemmAttrs::kA)];
  const TensorView& bias = call.in[conv ? int(Conv2dAttrs::kBias) : int(GemmAttrs::kBias)];
  if (!x.is_dense() || !call.out.is_dense()) return "source and out must be dense";
  if (!bias.present()) return "wants a bias";
  if constexpr (conv) {
    const auto& attrs = call.attributes<Conv2dAttrs>();
    if (call.in[Conv2dAttrs::kX2].present() || attrs.upsample_height > 0) return "one source, not enlarged";
    if (!(attrs.epilogue == Epilogue{}) || call.in[Conv2dAttrs::kRowBias].present() ||
        call.in[Conv2dAttrs::kResidual].present())
      return "compared with a bias alone";
  } else {
    if (!(call.attributes<GemmAttrs>().epilogue == Epilogue{}) || call.in[GemmAttrs::kRowBias].present() ||
        call.in[GemmAttrs::kResidual].present())
      return "compared with a bias alone";
  }
  return prepared(call, way) ? nullptr : "oneDNN has only its reference for this";
}

template <Way way>
size_t packed_bytes(const KernelCall& call) {
  return prepared(call, way)->weight_bytes;
}

template <Way way>
void pack(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team) {
  if (team.index == 0) {
    Prepared& p = *prepared(call, way);
    memory stored(p.stored_weight, engine(), parts[0].data);
    p.weight.set_data_handle(packed);
    dnnl::reorder(stored, p.weight).execute(stream(), stored, p.weight);
    stream().wait();
  }
  team.sync();
}

template <Way way>
void launch(const KernelCall& call, const Team& team) {
  if (team.index != 0) return;
  const bool conv = way == Way::convolution;
  Prepared& p = *prepared(call, way);
  p.source.set_data_handle(call.in[conv ? int(Conv2dAttrs::kX) : int(GemmAttrs::kA)].data);
  p.bias.set_data_handle(call.in[conv ? int(Conv2dAttrs::kBias) : int(GemmAttrs::kBias)].data);
  p.weight.set_data_handle(const_cast<void*>(call.packed));
  p.out.set_data_handle(call.out.data);
  p.primitive.execute(
      stream(),
      {{DNNL_ARG_SRC, p.source}, {DNNL_ARG_WEIGHTS, p.weight}, {DNNL_ARG_BIAS, p.bias}, {DNNL_ARG_DST, p.out}});
  stream().wait();
}

template <Way way>
constexpr KernelDef entry(OpKind op, const char* variant) {
  return {.op = op,
          .variant = variant,
          .isa = Isa::avx2,
          .reject = reject<way>,
          .scratch_bytes = nullptr,
          .pack_format = variant,
          .packed_bytes = packed_bytes<way>,
          .pack = pack<way>,
          .launch = launch<way>};
}

constexpr KernelDef kConvolution = entry<Way::convolution>(OpKind::conv2d, "onednn");
constexpr KernelDef kMatmul = entry<Way::matmul>(OpKind::gemm, "onednn_matmul");
constexpr KernelDef kInnerProduct = entry<Way::inner_product>(OpKind::gemm, "onednn_ip");

// The wheel's build reaches the CPU through OpenCL: its driver lies beside the library, where nothing looks for it.
void point_to_opencl_driver() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&dnnl_version), &info)) return;
  const std::filesystem::path driver = std::filesystem::path(info.dli_fname).parent_path() / "libintelocl.so";
  if (std::filesystem::exists(driver)) setenv("OCL_ICD_FILENAMES", driver.c_str(), /*replace=*/0);
}

const char* isa_text() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::avx2:
      return "AVX2";
    case dnnl::cpu_isa::avx512_core:
      return "AVX-512";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "AVX-512 with bf16";
    default:
      return "another instruction set";
  }
}

}  // namespace

Library load_onednn(int threads) {
  Library library{"oneDNN", "", "", {}};
  if (threads != default_threads()) {
    library.missing = fmt::format("takes all {} cores: compare with as many threads", default_threads());
    return library;
  }
  point_to_opencl_driver();
  try {
    stream();
  } catch (const dnnl::error& e) {
    library.missing = fmt::format("has no CPU engine here: {}", e.what());
    return library;
  }
  const dnnl_version_t* v = dnnl_version();
  library.version = fmt::format("{}.{}.{}, {}", v->major, v->minor, v->patch, isa_text());
  library.kernels = {&kConvolution, &kMatmul, &kInnerProduct};
  return library;
}

}  // namespace darkroom::bench

#endif

// unary, add, geglu and concat: one pass at the speed of memory. Dense tensors are walked as one long run.
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/rows.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

// Calls row(r, offset, n) for this member's rows: rows of channels, or pieces of kFlatRow elements where all is dense;
// offset then counts from the start of the data.
template <typename Row>
void for_rows(const TensorView& v, bool flat, const Team& team, Row row) {
  if (flat) {
    const int64_t total = v.shape.elements();
    const auto [first, last] = team.range((total + kFlatRow - 1) / kFlatRow);
    for (int64_t r = first; r < last; ++r) {
      const int64_t begin = r * kFlatRow, left = total - begin;
      row(r, begin, left < kFlatRow ? left : kFlatRow);
    }
  } else {
    const auto [first, last] = team.range(v.rows());
    for (int64_t r = first; r < last; ++r) row(r, int64_t(-1), v.channels());
  }
}

int64_t offset_of(const TensorView& v, int64_t r, int64_t flat_offset) {
  return flat_offset >= 0 ? flat_offset : row_offset(v, r);
}

// out[i] = f(i, n), n lanes from element i on.
template <typename Out, typename F>
inline void map_row(Out* out, int64_t n, F f) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) simd::store(out + i, f(i, 8));
  if (i < n) simd::store_n(out + i, f(i, int(n - i)), int(n - i));
}

template <typename T>
inline __m256 load_lanes(const T* p, int n) {
  return n == 8 ? simd::load(p) : simd::load_n(p, n);
}

template <template <typename, typename> typename F>
void dispatch(DType in, DType out, const KernelCall& call, const Team& team) {
  if (in == DType::f32) return out == DType::f32 ? F<float, float>::run(call, team) : F<float, bf16_t>::run(call, team);
  return out == DType::f32 ? F<bf16_t, float>::run(call, team) : F<bf16_t, bf16_t>::run(call, team);
}

const char* reject_one_source(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[0].dtype))
    return "x and out must be f32 or bf16";
  return nullptr;
}

template <typename In, typename Out>
struct Unary {
  template <Activation kActivation>
  static void rows(const KernelCall& call, const Team& team) {
    const TensorView& x = call.in[UnaryAttrs::kX];
    const __m256 scale = _mm256_set1_ps(call.attributes<UnaryAttrs>().scale);
    for_rows(x, x.is_dense() && call.out.is_dense(), team, [&](int64_t r, int64_t flat, int64_t n) {
      const In* in = x.as<In>() + offset_of(x, r, flat);
      map_row(call.out.as<Out>() + offset_of(call.out, r, flat), n, [&](int64_t i, int lanes) {
        return _mm256_mul_ps(simd::activate<kActivation>(load_lanes(in + i, lanes)), scale);
      });
    });
  }
  static void run(const KernelCall& call, const Team& team) {
    switch (call.attributes<UnaryAttrs>().activation) {
      case Activation::none:
        return rows<Activation::none>(call, team);
      case Activation::silu:
        return rows<Activation::silu>(call, team);
      case Activation::gelu:
        return rows<Activation::gelu>(call, team);
      case Activation::quick_gelu:
        return rows<Activation::quick_gelu>(call, team);
      case Activation::relu:
        return rows<Activation::relu>(call, team);
    }
  }
};

void launch_unary(const KernelCall& call, const Team& team) {
  dispatch<Unary>(call.in[UnaryAttrs::kX].dtype, call.out.dtype, call, team);
}

const char* reject_add(const KernelCall& call) {
  const DType a = call.in[AddAttrs::kA].dtype, b = call.in[AddAttrs::kB].dtype;
  if (!is_activation_type(call.out.dtype) || !is_activation_type(a)) return "a and out must be f32 or bf16";
  if (b != a && b != DType::f32) return "b must be of a's dtype, or f32";
  return nullptr;
}

template <typename In, typename Out>
struct Add {
  template <typename InB>
  static void rows(const KernelCall& call, const Team& team) {
    const TensorView &a = call.in[AddAttrs::kA], &b = call.in[AddAttrs::kB];
    const bool per_sample = !(b.shape == a.shape);
    const bool flat = !per_sample && a.is_dense() && b.is_dense() && call.out.is_dense();
    const int64_t rows_of_sample = a.rows() / a.shape[0];
    for_rows(a, flat, team, [&](int64_t r, int64_t start, int64_t n) {
      const In* in_a = a.as<In>() + offset_of(a, r, start);
      const InB* in_b = b.as<InB>() + (per_sample ? row_offset(b, r / rows_of_sample) : offset_of(b, r, start));
      map_row(call.out.as<Out>() + offset_of(call.out, r, start), n, [&](int64_t i, int lanes) {
        return _mm256_add_ps(load_lanes(in_a + i, lanes), load_lanes(in_b + i, lanes));
      });
    });
  }
  static void run(const KernelCall& call, const Team& team) {
    call.in[AddAttrs::kB].dtype == DType::f32 ? rows<float>(call, team) : rows<bf16_t>(call, team);
  }
};

void launch_add(const KernelCall& call, const Team& team) {
  dispatch<Add>(call.in[AddAttrs::kA].dtype, call.out.dtype, call, team);
}

template <typename In, typename Out>
struct Geglu {
  static void run(const KernelCall& call, const Team& team) {
    const TensorView& x = call.in[GegluAttrs::kX];
    const int64_t half = x.channels() / 2;
    const auto [first, last] = team.range(x.rows());
    for (int64_t r = first; r < last; ++r) {
      const In* in = x.as<In>() + row_offset(x, r);
      map_row(call.out.as<Out>() + row_offset(call.out, r), half, [&](int64_t i, int lanes) {
        return _mm256_mul_ps(load_lanes(in + i, lanes), simd::gelu(load_lanes(in + half + i, lanes)));
      });
    }
  }
};

void launch_geglu(const KernelCall& call, const Team& team) {
  dispatch<Geglu>(call.in[GegluAttrs::kX].dtype, call.out.dtype, call, team);
}

const char* reject_concat(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype)) return "out must be f32 or bf16";
  for (const TensorView& x : call.in)
    if (x.present() && x.dtype != call.out.dtype) return "inputs and out must be of one dtype";
  return nullptr;
}

void launch_concat(const KernelCall& call, const Team& team) {
  const int64_t size = int64_t(dtype_size(call.out.dtype));
  const auto [first, last] = team.range(call.out.rows());
  for (int64_t r = first; r < last; ++r) {
    char* out = call.out.as<char>() + row_offset(call.out, r) * size;
    for (const TensorView& x : call.in) {
      if (!x.present()) continue;
      memcpy(out, x.as<char>() + row_offset(x, r) * size, size_t(x.channels() * size));
      out += x.channels() * size;
    }
  }
}

}  // namespace

extern const KernelDef unary_avx2, add_avx2, geglu_avx2, concat_avx2;
const KernelDef unary_avx2 = {
    .op = OpKind::unary,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject_one_source,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_unary,
};
const KernelDef add_avx2 = {
    .op = OpKind::add,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject_add,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_add,
};
const KernelDef geglu_avx2 = {
    .op = OpKind::geglu,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject_one_source,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_geglu,
};
const KernelDef concat_avx2 = {
    .op = OpKind::concat,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject_concat,
    .scratch_bytes = nullptr,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch_concat,
};

}  // namespace darkroom::kernels

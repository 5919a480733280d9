// Three passes over a row: the maximum; the exponentials, kept in f32, and their sum; the quotients.
#include "kernels/core/kernel.h"
#include "kernels/core/reject.h"
#include "kernels/core/rows.h"
#include "kernels/core/simd_avx2.h"

namespace darkroom::kernels {
namespace {

const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.out.dtype) || !is_activation_type(call.in[SoftmaxAttrs::kX].dtype))
    return "x and out must be f32 or bf16";
  return nullptr;
}

int64_t row_bytes(const KernelCall& call) { return (call.out.channels() + 15) / 16 * 64; }

size_t scratch_bytes(const KernelCall& call, int team) { return size_t(row_bytes(call)) * size_t(team); }

// exponentials: scratch for one row. Columns from `seen` to M become zero.
template <typename In, typename Out>
void softmax_row(const In* x, int64_t seen, int64_t M, float* exponentials, Out* out) {
  const int64_t whole = seen / 8 * 8;
  const int tail = int(seen - whole);
  const __m256 lanes = _mm256_castsi256_ps(simd::tail_mask(tail));
  const __m256 lowest = _mm256_set1_ps(-__builtin_inff());
  __m256 m = lowest;
  for (int64_t j = 0; j < whole; j += 8) m = _mm256_max_ps(simd::load(x + j), m);
  if (tail) m = _mm256_max_ps(_mm256_blendv_ps(lowest, simd::load_n(x + whole, tail), lanes), m);
  const __m256 max = _mm256_set1_ps(simd::max(m));

  __m256 s = _mm256_setzero_ps();
  for (int64_t j = 0; j < whole; j += 8) {
    const __m256 e = simd::exp(_mm256_sub_ps(simd::load(x + j), max));
    simd::store(exponentials + j, e);
    s = _mm256_add_ps(s, e);
  }
  if (tail) {
    const __m256 e = _mm256_and_ps(simd::exp(_mm256_sub_ps(simd::load_n(x + whole, tail), max)), lanes);
    simd::store(exponentials + whole, e);
    s = _mm256_add_ps(s, e);
  }
  const __m256 inverse = _mm256_set1_ps(1.0f / simd::sum(s));
  for (int64_t j = 0; j < whole; j += 8) simd::store(out + j, _mm256_mul_ps(simd::load(exponentials + j), inverse));
  if (tail) simd::store_n(out + whole, _mm256_mul_ps(simd::load(exponentials + whole), inverse), tail);
  memset(static_cast<void*>(out + seen), 0, size_t(M - seen) * sizeof(Out));
}

template <typename In, typename Out>
void run(const KernelCall& call, const Team& team) {
  const TensorView& x = call.in[SoftmaxAttrs::kX];
  const bool causal = call.attributes<SoftmaxAttrs>().causal;
  const int64_t N = x.rank() >= 2 ? x.shape[-2] : 1, M = x.channels();
  float* exponentials = static_cast<float*>(call.scratch) + team.index * (row_bytes(call) / 4);
  const auto [first, last] = team.range(x.rows());
  for (int64_t r = first; r < last; ++r) {
    const int64_t seen = causal && r % N + 1 < M ? r % N + 1 : M;
    softmax_row(x.as<In>() + row_offset(x, r), seen, M, exponentials, call.out.as<Out>() + row_offset(call.out, r));
  }
}

void launch(const KernelCall& call, const Team& team) {
  const bool in_f32 = call.in[SoftmaxAttrs::kX].dtype == DType::f32, out_f32 = call.out.dtype == DType::f32;
  if (in_f32) return out_f32 ? run<float, float>(call, team) : run<float, bf16_t>(call, team);
  return out_f32 ? run<bf16_t, float>(call, team) : run<bf16_t, bf16_t>(call, team);
}

}  // namespace

extern const KernelDef softmax_avx2;
const KernelDef softmax_avx2 = {
    .op = OpKind::softmax,
    .variant = "avx2",
    .isa = Isa::avx2,
    .reject = reject,
    .scratch_bytes = scratch_bytes,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch,
};

}  // namespace darkroom::kernels

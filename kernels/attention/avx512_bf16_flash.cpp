// Flash attention with products of bf16 on AVX512-BF16: tiles of 14 queries.
#include "kernels/attention/bf16_flash.h"
#include "kernels/core/gemm_tile_avx512.h"

namespace darkroom::kernels {
namespace {

using namespace bf16_flash;

// The tile's arithmetic on A with rows kStride apart.
template <int64_t kStride>
struct Pairs {
  using Cell = bf16_t;
  using Sum = float;
  using Vector = __m512;
  static constexpr int64_t kGroup = 2, kLda = kStride;

  static __m512 zero() { return _mm512_setzero_ps(); }
  static __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 x) { _mm512_storeu_ps(p, x); }
  static __m512i broadcast(const bf16_t* p) { return simd512::broadcast_pair(p); }
  static __m512i load_weights(const bf16_t* p) { return _mm512_loadu_si512(p); }
  static __m512 multiply_add(__m512 sums, __m512i a, __m512i w) { return simd512::dot_bf16(sums, a, w); }
};

struct Tile {
  static constexpr int64_t kMr = gemm_avx512::kMr, kUnit = 2, kColumns = 16;
  static constexpr int64_t kQueryRow = kMaxHeadDim + 32;  // 17 cache lines, odd, spreads the sets
  static constexpr int64_t kWeightRow = kMaxKeys + 32;    // 9 cache lines

  static int64_t max_block(int64_t) { return 14 * kMr; }
  static auto scores(int64_t rows) { return gemm_avx512::micro_kernel_of<bf16_t, Pairs<kQueryRow>>(rows); }
  static auto sums(int64_t rows, int64_t width) {
    return width == 32 ? gemm_avx512::micro_kernel_of<bf16_t, Pairs<kWeightRow>>(rows)
                       : gemm_avx512::micro_kernel_of<bf16_t, Pairs<kWeightRow>, 1>(rows);
  }
};

}  // namespace

extern const KernelDef attention_avx512_bf16_flash;
const KernelDef attention_avx512_bf16_flash = {
    .op = OpKind::attention,
    .variant = "avx512_bf16_flash",
    .isa = Isa::avx512_bf16,
    .reject = reject,
    .scratch_bytes = scratch_bytes<Tile>,
    .pack_format = {},
    .packed_bytes = nullptr,
    .pack = nullptr,
    .launch = launch<Tile>,
};

}  // namespace darkroom::kernels

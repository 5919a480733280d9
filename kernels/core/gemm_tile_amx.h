// What the AMX cores share: the tile registers, the 32 × 32 tile, its loop over K.
//
// AMX is a coprocessor with eight tiles of 16 rows × 64 bytes. Four hold sums, two rows of A, two weights: a step of 64 bytes of K (32
// bf16 or 64 int8) is 4 loads of 1 KB and 4 multiplications of 16 cycles each. Weights lie in groups of 32 bits along K,
// [K / group][32][group], which is how a tile wants its second operand.
//
// The operand that is used once, A (kStreamA) or the weights, is loaded with a hint (tileloaddt1) that keeps it from pushing the other
// out of L1. Measured, random numbers, K of 640, the weights
// in L1, A and sums in L2: a product takes 9.4 ns, 7.2 where the sums need not be loaded; without the hint 11.0 and 9.4; 5.4 is the unit's.
//
// Rows of a tile beyond the block's last are computed from whatever the scratch holds, and not stored: rows do not mix.
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace darkroom::gemm_amx {

namespace {  // types of their own for each unit: their functions must not meet those of a unit compiled otherwise

// The intrinsics are inline assembly that does not tell the compiler what memory it reads.
inline void memory_is_read() { asm volatile("" ::: "memory"); }

// All eight tiles whole, while this lives; of the calling thread.
class Tiles {
 public:
  Tiles() {
    alignas(64) static constexpr struct {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } kWhole;
    memory_is_read();
    _tile_loadconfig(&kWhole);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

constexpr int64_t kMr = 32, kNr = 32;
constexpr int64_t kStepBytes = 64;                    // of K, in one multiplication
constexpr int64_t kStepOfWeights = kNr * kStepBytes;  // bytes

// Tiles 0 to 3 are the sums [32, 32]: two and two side by side; the lower two only with kBoth, the right two only with kWide.
template <bool kBoth, bool kWide = true, typename Sum>
void begin_sums(const Sum* c, bool accumulate) {
  static_assert(sizeof(Sum) == 4);
  constexpr int64_t kRow = kNr * int64_t(sizeof(Sum));
  memory_is_read();
  if (accumulate) {
    _tile_loadd(0, c, kRow);
    if (kWide) _tile_loadd(1, c + 16, kRow);
    if (kBoth) _tile_loadd(2, c + 16 * kNr, kRow);
    if (kBoth && kWide) _tile_loadd(3, c + 16 * kNr + 16, kRow);
  } else {
    _tile_zero(0);
    if (kWide) _tile_zero(1);
    if (kBoth) _tile_zero(2);
    if (kBoth && kWide) _tile_zero(3);
  }
}
template <bool kBoth, bool kWide = true, typename Sum>
void end_sums(Sum* c) {
  constexpr int64_t kRow = kNr * int64_t(sizeof(Sum));
  _tile_stored(0, c, kRow);
  if (kWide) _tile_stored(1, c + 16, kRow);
  if (kBoth) _tile_stored(2, c + 16 * kNr, kRow);
  if (kBoth && kWide) _tile_stored(3, c + 16 * kNr + 16, kRow);
}

// sums += a [32, one step] (rows row_a bytes apart, the lower sixteen from `lower` on) · the weights at w and, for channels 16 to 31,
// at `right`, whose rows are row_w bytes apart. Math is what a core multiplies with: its Cell and Sum, and the instructions (which take numbers, not expressions)
// upper_left(), tiles 0 += 4 · 6, upper_right(), 1 += 4 · 7, lower_left(), 2 += 5 · 6, and lower_right(), 3 += 5 · 7.
template <typename Math, bool kBoth, bool kWide = true, bool kStreamA = true>
void step(const char* a, const char* lower, int64_t row_a, const char* w, const char* right, int64_t row_w) {
  if (kStreamA) {
    _tile_loadd(6, w, row_w);
    _tile_stream_loadd(4, a, row_a);
    if (kWide) _tile_loadd(7, right, row_w);
  } else {
    _tile_stream_loadd(6, w, row_w);
    _tile_loadd(4, a, row_a);
    if (kWide) _tile_stream_loadd(7, right, row_w);
  }
  Math::upper_left();
  if (kWide) Math::upper_right();
  if (kBoth) {
    if (kStreamA)
      _tile_stream_loadd(5, lower, row_a);
    else
      _tile_loadd(5, lower, row_a);
    Math::lower_left();
    if (kWide) Math::lower_right();
  }
}

// A RowKernelOf of gemm_frame.h.
template <typename Math, bool kBoth, bool kStreamA>
void multiply_rows(const typename Math::Cell* a, int64_t stride, const void* weights, int64_t k, typename Math::Sum* c,
                   bool accumulate) {
  constexpr int64_t kCell = int64_t(sizeof(typename Math::Cell)), kRowOfW = kNr * 4;
  const char *rows = reinterpret_cast<const char*>(a), *lower = rows + 16 * stride * kCell;
  const char* w = static_cast<const char*>(weights);
  begin_sums<kBoth>(c, accumulate);
  for (int64_t i = 0; i < k * kCell; i += kStepBytes, w += kStepOfWeights)
    step<Math, kBoth, true, kStreamA>(rows + i, lower + i, stride * kCell, w, w + 64, kRowOfW);
  end_sums<kBoth>(c);
}
template <typename Math, bool kStreamA>
auto row_kernel_of(int64_t rows) {
  return rows > 16 ? multiply_rows<Math, true, kStreamA> : multiply_rows<Math, false, kStreamA>;
}

// A MicroKernelOf, whose rows of A are kLda cells apart.
template <typename Math, int64_t kLda, bool kBoth, bool kStreamA>
void multiply(const typename Math::Cell* a, const void* weights, int64_t k, typename Math::Sum* c, bool accumulate) {
  multiply_rows<Math, kBoth, kStreamA>(a, kLda, weights, k, c, accumulate);
}
template <typename Math, int64_t kLda, bool kStreamA = true>
auto micro_kernel_of(int64_t rows) {
  return rows > 16 ? multiply<Math, kLda, true, kStreamA> : multiply<Math, kLda, false, kStreamA>;
}

}  // namespace
}  // namespace darkroom::gemm_amx

// A gemm or a conv2d as one thing for the CUDA kernels: operands, geometry, and packed weights. See
// kernels/core/cuda/implicit_gemm.h.
#pragma once

#include <span>

#include "kernels/core/kernel.h"

namespace darkroom {

struct GemmCall {
  TensorView source[2], weight, bias, row_bias, residual, out;
  TensorView moments;  // of out, where a convolution leaves them
  int kernel = 1, stride = 1, pad_top = 0, pad_left = 0;
  int phases = 1;  // 4: each pixel of the source gives four outputs, by weights of their own (subpixel_call)
  int64_t seen_height = 0, seen_width = 0;  // of an enlarged picture, else 0
  bool int8 = false;
  Epilogue epilogue;

  int64_t taps() const { return int64_t(kernel) * kernel; }
  int64_t columns() const { return weight.shape[0]; }
  int64_t rows() const { return out.rows() / phases; }  // of one phase
  // K in blocks, each source padded to whole ones.
  int64_t k_blocks(int64_t block) const;
  // The weight's rows, padded to the widest tile.
  int64_t padded_columns() const;
};
GemmCall gemm_call(const KernelCall& call);
GemmCall conv2d_call(const KernelCall& call);
// A 3×3 convolution of a picture enlarged twice, as four 2×2 convolutions of the picture: output (2y + i, 2x + j) is that of phase
// 2i + j at (y, x), whose window begins at (y − 1 + i, x − 1 + j).
GemmCall subpixel_call(const KernelCall& call);

// In how many slabs it can leave moments (KernelDef::moments_slabs): kSlabRows rows of a sample, of a phase, to each.
inline constexpr int64_t kSlabRows = 64;
int64_t moments_slabs(const GemmCall& c);

// nullptr, or why no CUDA kernel can run it, whatever the types of A and out.
const char* reject_gemm(const GemmCall& c);

// Weights as the cores read them: [padded columns][K], f32, bf16 or f16. Padding is zero. With GEGLU, sixteen rows hold eight
// values and their eight gates.
size_t packed_rows_bytes(const GemmCall& c, int64_t block, DType type);
void pack_rows(const GemmCall& c, int64_t block, DType type, std::span<const TensorView> parts, void* packed,
               const Team& team);
// The same for subpixel_call(), from the 3×3 weight: the rows of phase 0, then those of 1, 2, 3. Weights whose pixels coincide are
// added in f32.
void pack_subpixel_rows(const GemmCall& c, int64_t block, DType type, const TensorView& weight, void* packed,
                        const Team& team);

// Whether 2^n channels of every row can be moved at once: aligned, and no fewer at the end of a row.
bool rows_of(int64_t channels, const TensorView& v);

}  // namespace darkroom

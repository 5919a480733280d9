#include <simt/ptx.h>
#include <simt/report.h>

namespace darkroom::simt {

namespace {

float element(uint32_t packed, int half, bool f16) {
  const uint16_t bits = uint16_t(packed >> (16 * half));
  return f16 ? to_float(f16_t{bits}) : to_float(bf16_t{bits});
}

// Sums of a depth's products in f32, then added to d: hardware's order and rounding are its own, and no kernel may count
// on them.
void mma_of_warp(void* const (&arguments)[kWarp], Warp&, Site) {
  float a[16][16], b[16][8];
  const auto* first = static_cast<const MmaArgument*>(arguments[0]);
  const int depth = first->depth, a_registers = depth / 4, b_registers = depth / 8;
  for (int l = 0; l < kWarp; ++l) {
    const auto& m = *static_cast<const MmaArgument*>(arguments[l]);
    const int g = l / 4, t = l % 4;
    for (int r = 0; r < a_registers; ++r)
      for (int half = 0; half < 2; ++half)
        a[g + 8 * (r % 2)][2 * t + half + 8 * (r / 2)] = element(m.a[r], half, m.f16);
    for (int r = 0; r < b_registers; ++r)
      for (int half = 0; half < 2; ++half) b[2 * t + half + 8 * r][g] = element(m.b[r], half, m.f16);
  }
  float sum[16][8] = {};
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < depth; ++k)
      for (int j = 0; j < 8; ++j) sum[i][j] += a[i][k] * b[k][j];
  for (int l = 0; l < kWarp; ++l) {
    float* d = static_cast<const MmaArgument*>(arguments[l])->d;
    const int g = l / 4, t = l % 4;
    for (int r = 0; r < 4; ++r) d[r] += sum[g + 8 * (r / 2)][2 * t + r % 2];
  }
}

void ldmatrix_of_warp(void* const (&arguments)[kWarp], Warp& warp, Site site) {
  const auto& first = *static_cast<const LdmatrixArgument*>(arguments[0]);
  const bool was_counting = counting;
  counting = false;  // counted here, by matrix
  for (int i = 0; i < first.matrices; ++i) {
    uint16_t matrix[8][8];
    const void* rows[8];
    for (int r = 0; r < 8; ++r) {
      const auto& m = *static_cast<const LdmatrixArgument*>(arguments[8 * i + r]);
      current = &warp.threads[8 * i + r];
      shared_read(m.row, 16, site);
      memcpy(matrix[r], m.row, 16);
      rows[r] = m.row;
    }
    if (was_counting) count_rows(rows, site);
    for (int l = 0; l < kWarp; ++l) {
      const auto& m = *static_cast<const LdmatrixArgument*>(arguments[l]);
      const int g = l / 4, t = 2 * (l % 4);
      const uint16_t low = m.transpose ? matrix[t][g] : matrix[g][t];
      const uint16_t high = m.transpose ? matrix[t + 1][g] : matrix[g][t + 1];
      m.registers[i] = uint32_t(low) | uint32_t(high) << 16;
    }
  }
  counting = was_counting;
}

}  // namespace

void mma(const MmaArgument& argument, Site site) {
  meet("mma", mma_of_warp, const_cast<MmaArgument*>(&argument), site);
}

void ldmatrix(const LdmatrixArgument& argument, Site site) {
  meet("ldmatrix", ldmatrix_of_warp, const_cast<LdmatrixArgument*>(&argument), site);
}

}  // namespace darkroom::simt

// matmul on any core of the frame (core/gemm_frame.h): for each batch item the team packs B into panels, then runs the core.
#pragma once

#include "kernels/core/gemm_frame.h"
#include "kernels/core/reject.h"

namespace darkroom::matmul_on_core {

using namespace gemm_frame;

template <typename Core>
static const char* reject(const KernelCall& call) {
  if (!is_activation_type(call.in[MatmulAttrs::kA].dtype) || !is_activation_type(call.in[MatmulAttrs::kB].dtype) ||
      !is_activation_type(call.out.dtype))
    return "A, B and out must be f32 or bf16";
  return nullptr;
}

// Packed B of one item, in whole cache lines; the members' blocks follow.
template <typename Core>
static size_t b_bytes(const KernelCall& call) {
  return packed_bytes<Core>(call.out.shape[-1], call.in[MatmulAttrs::kA].shape[-1], false, DType::f32);
}

template <typename Core>
static size_t scratch_bytes(const KernelCall& call, int team) {
  return b_bytes<Core>(call) + size_t(team) * scratch_bytes_per_member<Core>(call.in[MatmulAttrs::kA].shape[-1]);
}

// The matrix that two leading indices select.
static inline TensorView item_of(const TensorView& v, int64_t item) {
  TensorView matrix = {nullptr, v.dtype, {v.shape[-2], v.shape[-1]}, {v.stride[size_t(v.rank() - 2)], 1}};
  int64_t offset = 0;
  for (int i = v.rank() - 3; i >= 0; --i) {
    offset += item % v.shape[i] * v.stride[size_t(i)];
    item /= v.shape[i];
  }
  matrix.data = static_cast<char*>(v.data) + offset * int64_t(dtype_size(v.dtype));
  return matrix;
}

// B [k, m], or with `transposed` [m, k], into panels.
template <typename Core>
static void pack_b(const TensorView& b, bool transposed, int64_t m, int64_t k, void* packed, const Team& team) {
  const DType type = Core::packed_type(DType::f32);
  const int64_t along_k = transposed ? 1 : b.stride[0], along_m = transposed ? b.stride[0] : 1;
  const int64_t panels = panels_of<Core>(m, false);
  for (int64_t panel = panels * team.index / team.count; panel < panels * (team.index + 1) / team.count; ++panel) {
    char* to = static_cast<char*>(packed) + size_t(panel) * panel_bytes<Core>(k, DType::f32);
    const int64_t first = panel * Core::kNr, width = smaller(Core::kNr, m - first);
    if (width < Core::kNr || k % Core::kUnit != 0) memset(to, 0, panel_bytes<Core>(k, DType::f32));
    for (int64_t i = 0; i < k; ++i)
      for (int64_t lane = 0; lane < width; ++lane)
        convert_element(b.data, b.dtype, i * along_k + (first + lane) * along_m, to, type,
                        place_in_panel<Core>(i, lane));
  }
}

template <typename Core>
static void launch(const KernelCall& call, const Team& team) {
  const auto& attrs = call.attributes<MatmulAttrs>();
  const TensorView& a = call.in[MatmulAttrs::kA];
  const TensorView& b = call.in[MatmulAttrs::kB];
  const int64_t m = call.out.shape[-1], k = a.shape[-1];
  const Product product = {
      .m = a.shape[-2], .k = k, .panels = panels_of<Core>(m, false), .weight = call.scratch, .weight_type = DType::f32};
  void* blocks = static_cast<char*>(call.scratch) + b_bytes<Core>(call);

  const int64_t items = a.shape.rows() / a.shape[-2];
  for (int64_t item = 0; item < items; ++item) {
    if (item > 0) team.sync();  // the others may still read the last item's B
    pack_b<Core>(item_of(b, item), attrs.transpose_b, m, k, call.scratch, team);
    team.sync();
    MatrixRows<Core> rows;
    rows.a = item_of(a, item);
    Store store;
    store.out = item_of(call.out, item);
    store.alpha = attrs.alpha;
    run<Core>(product, store, rows, blocks, team);
  }
}

}  // namespace darkroom::matmul_on_core

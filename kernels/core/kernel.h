// One implementation of one op, and the table of all of them.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "kernels/core/cpu.h"
#include "kernels/core/ops.h"
#include "kernels/core/team.h"

namespace darkroom {

// One use of a kernel. While planning, all data pointers are null and shapes, strides and dtypes are those of the run.
struct KernelCall {
  const OpAttrs* attrs = nullptr;
  TensorView in[kMaxInputs];  // by the slots of the op's attributes; empty ones have dtype none
  TensorView out;
  // Of a conv2d or norm_conv2d, optional: [B, slabs, 3, C] f32, what a group_norm wants to know of out as it is stored. A slab is some
  // pixels of a sample; of each and of each channel their count, which is the same for all channels, their mean, and the sum of
  // their squared deviations from it.
  TensorView moments;
  const void* packed = nullptr;  // the packed slot's weight, as pack() wrote it
  void* scratch = nullptr;       // scratch_bytes() of it, 64-byte aligned, shared by the team

  template <typename Attrs>
  const Attrs& attributes() const {
    return std::get<Attrs>(*attrs);
  }
};

// A queue of work for a GPU: a cudaStream_t, here without CUDA's headers.
struct Stream {
  void* handle = nullptr;
};

struct KernelDef {
  OpKind op;
  std::string_view variant;  // ISA + strategy: "avx2_6x16"
  Isa isa;                   // what it needs of the CPU or GPU

  // nullptr: can run this call. Else the reason, a sentence for the plan ("row_bias must be f32"). Need not repeat what
  // infer_shape() holds, nor look at the ISA.
  const char* (*reject)(const KernelCall& call);

  // Work memory in bytes for a team of that size (1 on a GPU). May be null: none. Its contents are undefined at launch.
  size_t (*scratch_bytes)(const KernelCall& call, int team);

  // Weights, packed once at load; null where the op has no packed slot. pack_format names the layout: two variants of one
  // op with the same name share the packed weight. `parts` are the stored tensors, dense, f32/f16/bf16, to be taken one
  // below the other along the output channels (packed QKV). pack() may be called by a team; it ends synchronised. For a GPU it runs on the host too,
  // into a buffer that is then copied to the device.
  std::string_view pack_format;
  size_t (*packed_bytes)(const KernelCall& call);
  void (*pack)(const KernelCall& call, std::span<const TensorView> parts, void* packed, const Team& team);

  // On the CPU, null on a GPU. Called by every member of the team. Members may return before the others: whoever reads the
  // output synchronises.
  void (*launch)(const KernelCall& call, const Team& team) = nullptr;

  // On a GPU, null on the CPU. Appends its grids to the stream and returns: it neither allocates nor waits, so that a stream
  // may be captured. All memory of the call is the device's. Throws internal_error where the driver refuses a launch.
  void (*enqueue)(const KernelCall& call, const Stream& stream) = nullptr;

  // Estimated cycles of one core for one sample of the call; null: the order of the table decides. Among those that have an
  // estimate the least runs. Never looks at the batch, or the bits of a sample would depend on it.
  double (*cycles)(const KernelCall& call) = nullptr;

  // Slabs of a sample in which it leaves KernelCall::moments of what it stores; 0 where it cannot, null where it never can. From
  // the shape of one sample alone, as which pixels are in a slab and, on the CPU, the order in which they are summed.
  int64_t (*moments_slabs)(const KernelCall& call) = nullptr;

  // Its rounding errors are some times those of direct sums (Winograd): refused where exactness is asked for.
  bool inexact = false;
};

// All implementations of an op in the order of kernels.inc, those for a GPU first; of each family best first, `ref` last.
std::span<const KernelDef* const> kernels_of(OpKind op);

// nullptr where there is none.
const KernelDef* find_kernel(OpKind op, std::string_view variant);

// Those for a GPU that are linked into this program: none in a build without CUDA. Tests may link an emulator's.
std::span<const KernelDef* const> cuda_kernels();

}  // namespace darkroom

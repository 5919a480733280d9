// What a kernel needs of the machine that runs it: an instruction set of the CPU, or an architecture of the GPU.
#pragma once

namespace darkroom {

// Within a family each level includes those before it, with one exception: sm90 stands for sm_90a, whose own instructions
// (wgmma) no later chip has.
enum class Isa : int {
  baseline = 0,     // plain x86-64 (the `ref` kernels)
  avx2 = 1,         // AVX2, FMA, F16C
  avx512 = 2,       // AVX-512 F, BW, VL, DQ
  avx512_bf16 = 3,  // + AVX512-BF16 and VNNI
  amx = 4,          // + AMX tiles with products of bf16 and int8
  sm80 = 80,        // NVIDIA GPUs by compute capability: cp.async, mma of bf16
  sm86 = 86,
  sm89 = 89,
  sm90 = 90,
  sm100 = 100,
  sm120 = 120,
};

const char* isa_name(Isa isa);

constexpr bool is_cuda(Isa isa) { return int(isa) >= int(Isa::sm80); }

// Whether a kernel that needs `needed` runs on `machine`.
constexpr bool runs_on(Isa needed, Isa machine) {
  if (is_cuda(needed) != is_cuda(machine)) return false;
  return needed == Isa::sm90 ? machine == Isa::sm90 : needed <= machine;
}

}  // namespace darkroom

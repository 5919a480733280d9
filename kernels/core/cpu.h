// What this CPU can do, and what we let ourselves use of it.
#pragma once

#include <string>

namespace darkroom {

// Ordered: each level includes those before it. `baseline` is plain x86-64 (the `ref` kernels).
enum class Isa : int {
  baseline = 0,
  avx2 = 1,         // AVX2, FMA, F16C
  avx512 = 2,       // AVX-512 F, BW, VL, DQ
  avx512_bf16 = 3,  // + AVX512-BF16 and VNNI
};

const char* isa_name(Isa isa);

// What the CPU and the operating system offer.
Isa detected_isa();

// detected_isa(), lowered by the environment's DARKROOM_ISA (baseline | avx2 | avx512 | avx512_bf16). Read once.
// Throws usage_error on a name it does not know, or one above what the CPU has.
Isa active_isa();

// "AMD EPYC ..." as the CPU names itself.
std::string cpu_name();

}  // namespace darkroom

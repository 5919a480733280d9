// What this CPU can do, and what we let ourselves use of it.
#pragma once

#include <string>

#include "kernels/core/isa.h"

namespace darkroom {

// What the CPU and the operating system offer.
Isa detected_isa();

// detected_isa(), lowered by the environment's DARKROOM_ISA (baseline | avx2 | avx512 | avx512_bf16 | amx). Read once.
// Throws usage_error on a name it does not know, or one above what the CPU has.
Isa active_isa();

// "AMD EPYC ..." as the CPU names itself.
std::string cpu_name();

}  // namespace darkroom

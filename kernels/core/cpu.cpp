#include "kernels/core/cpu.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "kernels/core/error.h"

namespace darkroom {

namespace {

// Tiles are 8 KB of registers a thread, which the kernel saves only for processes that asked for them (Linux 5.16 and later).
bool amx_permitted() {
  unsigned int a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned int kNeeded = 1u << 22 | 1u << 24 | 1u << 25;  // bf16, tiles, int8
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kNeeded) != kNeeded) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

Isa detected_isa() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx2) return Isa::baseline;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (!avx512) return Isa::avx2;
  const bool dot = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
  if (!dot) return Isa::avx512;
  return amx_permitted() ? Isa::amx : Isa::avx512_bf16;
}

namespace {

Isa isa_from_environment() {
  const Isa detected = detected_isa();
  const char* wanted = std::getenv("DARKROOM_ISA");
  if (wanted == nullptr || *wanted == 0) return detected;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
    if (std::strcmp(wanted, isa_name(isa)) != 0) continue;
    if (isa > detected) throw usage_error("DARKROOM_ISA={}: this CPU has no more than {}", wanted, isa_name(detected));
    return isa;
  }
  throw usage_error("DARKROOM_ISA={}: use baseline, avx2, avx512, avx512_bf16 or amx", wanted);
}

}  // namespace

Isa active_isa() {
  static const Isa isa = isa_from_environment();
  return isa;
}

std::string cpu_name() {
  unsigned int words[12] = {};
  unsigned int max_leaf = 0, unused = 0;
  if (!__get_cpuid(0x80000000u, &max_leaf, &unused, &unused, &unused) || max_leaf < 0x80000004u) return "x86-64";
  for (unsigned int i = 0; i < 3; ++i)
    __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
  std::string name(reinterpret_cast<const char*>(words), sizeof words);
  name.resize(std::strlen(name.c_str()));
  while (!name.empty() && name.back() == ' ') name.pop_back();
  return name;
}

}  // namespace darkroom

#include "kernels/core/isa.h"

namespace darkroom {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
    case Isa::avx512_bf16:
      return "avx512_bf16";
    case Isa::amx:
      return "amx";
    case Isa::sm80:
      return "sm80";
    case Isa::sm86:
      return "sm86";
    case Isa::sm89:
      return "sm89";
    case Isa::sm90:
      return "sm90";
    case Isa::sm100:
      return "sm100";
    case Isa::sm120:
      return "sm120";
  }
  return "?";
}

}  // namespace darkroom

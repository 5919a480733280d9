#include "bench/kernels/libraries.h"

namespace darkroom::bench {

std::span<const Library> libraries(int threads) {
  static const std::vector<Library> all = {load_onednn(threads), load_openblas(threads), load_blis(threads)};
  return all;
}

}  // namespace darkroom::bench

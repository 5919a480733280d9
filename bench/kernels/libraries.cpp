#include "bench/kernels/libraries.h"

namespace darkroom::bench {

std::span<const Library> libraries(int threads) {
  static const std::vector<Library> all = {load_onednn(threads), load_openblas(threads), load_blis(threads)};
  return all;
}

std::span<const Library> gpu_libraries() {
  static const std::vector<Library> all = {load_cublaslt(), load_cudnn()};
  return all;
}

}  // namespace darkroom::bench

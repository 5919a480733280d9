#!/usr/bin/env bash
# Installs what is missing, builds everything with warnings as errors, and passes every test. DARKROOM_CUDA=ON in the
# environment: CUDA kernels are compiled as well, for two chips, and run where there is a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/install_packages.sh
build=${DARKROOM_BUILD_DIR:-build/tests}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDARKROOM_WERROR=ON \
  -DDARKROOM_CUDA="${DARKROOM_CUDA:-OFF}" -DDARKROOM_CUDA_ARCHITECTURES="80;90a"
cmake --build "$build" -j "$(nproc)"
ctest --test-dir "$build" --output-on-failure -j "$(nproc)"

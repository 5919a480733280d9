#!/usr/bin/env bash
# Installs what is missing, builds everything with warnings as errors, and passes every test.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/install_packages.sh
build=${DARKROOM_BUILD_DIR:-build/tests}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDARKROOM_WERROR=ON
cmake --build "$build" -j "$(nproc)"
ctest --test-dir "$build" --output-on-failure -j "$(nproc)"

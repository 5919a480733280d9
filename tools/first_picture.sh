#!/usr/bin/env bash
# Installs what is missing, builds Darkroom, and makes a picture.   usage: first_picture.sh [PROMPT]
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/install_packages.sh
build=${DARKROOM_BUILD_DIR:-build/release}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDARKROOM_BUILD_TESTS=OFF -DDARKROOM_BUILD_BENCH=OFF -DDARKROOM_CUDA="${DARKROOM_CUDA:-OFF}" >/dev/null
cmake --build "$build" -j "$(nproc)"
"$build/bin/sdrun" "${1:-a red boat under a yellow moon}" -o picture.png
echo "Look at picture.png. Next: $build/bin/sdrun --help"

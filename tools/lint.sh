#!/usr/bin/env bash
# clang-format and clang-tidy over everything; exits with 1 where either has something to say.
# Wants clang-format and clang-tidy, and a build folder with compile_commands.json: what that does not build (CUDA's host code
# where there is no nvcc) clang-tidy leaves out, and says so.   usage: lint.sh [BUILD_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/tests}
mapfile -t sources < <(git ls-files '*.cpp' '*.h' | grep -v '^tests/install/')
clang-format --dry-run -Werror "${sources[@]}"
# tests/simt: clang 14 does not know std::source_location.
mapfile -t units < <(printf '%s\n' "${sources[@]}" | grep '\.cpp$' | grep -v '^tests/simt/')
built=()
for unit in "${units[@]}"; do
  if grep -q "/$unit\"" "$build/compile_commands.json"; then built+=("$unit"); else echo "not built: $unit"; fi
done
printf '%s\n' "${built[@]}" | xargs -P "$(nproc)" -n 1 clang-tidy -p "$build" --quiet 2>/dev/null

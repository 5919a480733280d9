#!/usr/bin/env bash
# clang-format and clang-tidy over everything; exits with 1 where either has something to say.
# Wants clang-format and clang-tidy, and a build folder with compile_commands.json.   usage: lint.sh [BUILD_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build/tests}
mapfile -t sources < <(git ls-files '*.cpp' '*.h' | grep -v '^tests/install/')
clang-format --dry-run -Werror "${sources[@]}"
printf '%s\n' "${sources[@]}" | grep '\.cpp$' | xargs -P "$(nproc)" -n 1 clang-tidy -p "$build" --quiet 2>/dev/null

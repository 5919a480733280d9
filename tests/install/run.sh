#!/bin/sh
# Installs BUILD into a fresh prefix, builds the example against it with find_package, and makes a picture of MODEL with it.
# usage: run.sh BUILD MODEL [SANITIZERS that it was built with]
set -eu
build=$1 model=$2 sanitizers=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" >/dev/null
cmake -S "$here" -B "$work/build" -G Ninja -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Release \
  ${sanitizers:+"-DCMAKE_CXX_FLAGS=-fsanitize=$sanitizers"} >/dev/null
cmake --build "$work/build" >/dev/null
"$work/build/example" "$model" "a cat" "$work/picture.ppm"
head -c 2 "$work/picture.ppm" | grep -q P6
"$work/prefix/bin/sdrun" -q "a cat" -m "$model" --steps 2 -o "$work/picture.png"
test -s "$work/picture.png"
# The model that ships is found beside the installed programs.
(cd "$work" && env -u DARKROOM_MODEL prefix/bin/sdrun -q "a red boat under a yellow moon")
test -s "$work/out.png"

#!/usr/bin/env bash
# Installs what building Darkroom needs, from Debian's packages. Does nothing where all of it is there.
# With --bench also the libraries that bench_kernels compares with.
set -euo pipefail
packages=(g++ cmake ninja-build ccache pkg-config libfmt-dev libcli11-dev nlohmann-json3-dev libutf8proc-dev libxxhash-dev
  libstb-dev libpng-dev libjpeg62-turbo-dev libwebp-dev zlib1g-dev libgtest-dev libgmock-dev libbenchmark-dev libsimde-dev python3)
[ "${1:-}" = --bench ] && packages+=(libopenblas-dev libblis-dev)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
echo "Installing: ${missing[*]}"
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"

#!/usr/bin/env bash
# Compiles every CUDA kernel for the given architectures (all that a release has, by default) and prints, as a Markdown table,
# what each takes of an SM: registers, static shared memory, spills. Fails where one spills.
#   tools/cuda_resources.sh [sm_80 sm_90a ...]
set -euo pipefail
cd "$(dirname "$0")/.."
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
archs=("$@")
[ ${#archs[@]} -gt 0 ] || archs=(sm_80 sm_86 sm_89 sm_90a sm_100 sm_120)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "| kernel | arch | registers | static shared | stack | spills |"
echo "|---|---|---|---|---|---|"
failed=0
for arch in "${archs[@]}"; do
  for source in $(sed -nE 's/^DARKROOM_CUDA_KERNEL\([^,]*,[^,]*, *([^)]*)\).*/kernels\/\1/p' kernels/kernels.inc | sort -u); do
    if ! "$nvcc" -std=c++20 -I. -gencode "arch=compute_${arch#sm_},code=$arch" -Xptxas -v -c "$source" -o "$work/o" > "$work/log" 2>&1; then
      cat "$work/log" >&2
      exit 1
    fi
    c++filt < "$work/log" | awk -v arch="$arch" '
      /Compiling entry function/ { name = $0; sub(/.*Compiling entry function ./, "", name); sub(/. for .*/, "", name)
                                   sub(/^void /, "", name); gsub(/darkroom::|kernels::|\(anonymous namespace\)::|cuda::/, "", name)
                                   sub(/\(.*/, "", name) }
      /bytes stack frame/ { stack = $1; spills = $5 + $9 }
      /Used [0-9]+ registers/ { registers = shared = 0
        for (i = 1; i < NF; ++i) { if ($(i + 1) ~ /^registers/) registers = $i; if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i }
        printf "| `%s` | %s | %s | %s | %s | %s |\n", name, arch, registers, shared, stack, spills }'
    grep -qE '[1-9][0-9]* bytes spill' "$work/log" && failed=1
  done
done
exit $failed

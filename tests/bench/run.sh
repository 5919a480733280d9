#!/usr/bin/env bash
# The benchmarks themselves, on a small model: run.sh BUILD MODEL. Every kernel's output is right on every layer, each part of a
# picture runs, a pass left out is measured, a slower file is found, and the page has what the files say.
set -euo pipefail
build="$1" model="$2"
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT
fail() { echo "tests/bench: $*" >&2; exit 1; }

"$build/bin/bench_kernels" --models "$model" --threads 1 --no-libraries --benchmark_min_time=0.001 \
  --benchmark_out="$out/kernels.json" > "$out/kernels.txt" 2>&1 || { grep -E 'ERROR|bench_kernels' "$out/kernels.txt" >&2; fail "bench_kernels"; }
grep -q '"name": "conv2d/avx2_implicit/' "$out/kernels.json" || fail "no convolution was timed"

"$build/bin/bench_kernels" --models "$model" --threads 1 --no-libraries --plain --alternate 2 --filter linear \
  --variants avx2_6x16,avx2_6x16 --out "$out/alternate.json" > "$out/alternate.txt" || fail "bench_kernels --alternate"
grep -q '"of_ours": 1.0,\?$' "$out/alternate.json" || fail "the first kernel is not its own measure"
if "$build/bin/bench_kernels" --models "$model" --threads 1 --no-libraries --alternate 1 --variants nosuch \
  --out "$out/none.json" 2> "$out/none.txt"; then fail "a kernel that does not exist was measured"; fi
grep -q 'nosuch' "$out/none.txt" || fail "the error does not name the kernel"
if compgen -G "$out/none.json*" > /dev/null; then fail "a file was left behind"; fi

"$root/bench/picture/run.py" --build "$build" --model "$model" --size 64 --rounds 2 --parts text,step,decode,picture \
  --out "$out/picture.json" > /dev/null
"$root/bench/fusion/run.py" --build "$build" --model "$model" --size 64 --rounds 2 --part decode --passes conv_epilogue \
  --out "$out/fusion.json" > /dev/null

python3 - "$out" <<'PY'
import json, sys
out = sys.argv[1]
records = json.load(open(out + "/picture.json"))["records"]
assert [r["part"] for r in records] == ["text", "step", "decode", "picture"], records
assert all(len(r["seconds"]) == 2 and r["median"] > 0 and r["peak_bytes"] > 1 << 20 for r in records), records
whole, without = json.load(open(out + "/fusion.json"))["records"]
assert without["plan"]["bytes"] > whole["plan"]["bytes"] and without["plan"]["steps"] > whole["plan"]["steps"], without
slow = json.load(open(out + "/kernels.json"))
for b in slow["benchmarks"]:
    b["real_time"] *= 1.2
json.dump(slow, open(out + "/slow.json", "w"))
PY
"$root/bench/compare.py" "$out/kernels.json" "$out/kernels.json" > /dev/null || fail "a file is slower than itself"
if "$root/bench/compare.py" "$out/kernels.json" "$out/slow.json" > "$out/compared.txt"; then fail "20 % slower passed"; fi
grep -q 'geometric mean 1.200' "$out/compared.txt" || fail "the mean is not 1.2"
"$root/bench/report.py" "$out/kernels.json" "$out/alternate.json" "$out/picture.json" "$out/fusion.json" --out "$out/report.html"
grep -q 'conv_epilogue' "$out/report.html" || fail "the page lacks the pass"
if grep -Eq '(src|href)=' "$out/report.html"; then fail "the page loads something"; fi

#!/usr/bin/env python3
"""Measures everything on a GPU by one command and leaves JSON and a report: bench/gpu.py --build build/cuda --out build/gpu-results

1. bench_kernels: our kernels, cuBLASLt and cuDNN on every layer, cold and warm L2; the bf16 peak and the bandwidth of the card
2. peers/sdpa.py: PyTorch's attention on the same layers                       (with --venv: an environment that setup.sh filled)
3. picture/run.py: text, guided step, decode, a 20-step picture, each beside a torch.compile'd module of the same configuration
4. report.html and report.md of all of it

--quick takes one short run of everything. Without a GPU it says why and ends with 4.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from common import machine, results  # noqa: E402


def run(command, **more):
    command = [str(c) for c in command]
    print("+", " ".join(command), file=sys.stderr, flush=True)
    return subprocess.run(command, check=False, **more).returncode


def card():
    """nvidia-smi's words for the card, its driver and its clocks; empty where there is no nvidia-smi."""
    if not shutil.which("nvidia-smi"):
        return {}
    fields = ("name", "driver_version", "clocks.max.sm", "clocks.max.mem", "power.limit", "clocks.current.sm", "temperature.gpu")
    query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "-i", "0"]
    values = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip().split(", ")
    return dict(zip(fields, values)) if len(values) == len(fields) else {}


def kernels(a):
    out = a.out / f"kernels-{a.model}-{a.dtype}.json"
    command = [a.build / "bin/bench_kernels", "--device", "cuda", "--models", a.model, "--dtype", a.dtype, "--weights", a.dtype]
    command += [f"--benchmark_out={out}", "--benchmark_out_format=json", f"--benchmark_min_time={0.002 if a.quick else 0.02}"]
    if a.quick:
        command += ["--plain", "--no-check"]
    return out, run(command)


def sdpa(a, path):
    return run([a.venv / "bin/python", ROOT / "bench/peers/sdpa.py", path, "--out", path, "--dtype", a.dtype])


def pictures(a):
    out = a.out / f"pictures-{a.model}-{a.dtype}.json"
    command = [sys.executable, ROOT / "bench/picture/run.py", "--device", "cuda", "--model", a.model, "--precision", a.dtype]
    command += ["--build", a.build, "--out", out, "--steps", 20, "--rounds", 3 if a.quick else 20]
    command += ["--parts", "text,step,decode,picture", "--work", a.out / "work"]
    failed = 0
    if a.venv:
        command += ["--venv", a.venv, "--peers", "pytorch_compile"]
        failed = run([*command, "--prepare"])
    return out, failed or run(command)


def markdown(a, kernel_file, picture_file):
    """The numbers that the project's bars are about, and every plain layer against the best library."""
    data = json.loads(kernel_file.read_text())
    lines = [f"# {a.model}, {a.dtype}, {data['context']['gpu']}", ""]
    lines += [f"- {k}: {v}" for k, v in {**card(), **data["context"]}.items() if k not in ("executable", "caches", "library_build_type")]
    if picture_file.exists():
        lines += ["", "| part | engine | median ms | min | runs | device GB |", "|---|---|---|---|---|---|"]
        for r in json.loads(picture_file.read_text())["records"]:
            on_device = f"{r['device_bytes'] / 1e9:.2f}" if r.get("device_bytes") else ""
            lines.append(f"| {r['part']} | {r['engine']} | {r['median'] * 1e3:.2f} | {min(r['seconds']) * 1e3:.2f} | {len(r['seconds'])} | {on_device} |")
    rows = results.against_libraries(data)
    lines += ["", f"{sum(r['held'] for r in rows)} of {len(rows)} plain layers at or above the best library.", ""]
    lines += ["| op | layer | ours | µs | % peak | best library | µs | library / ours |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        lines.append(
            f"| {r['op']} | {r['layer']} | {r['ours']} | {r['ours_us']:.1f} | {r['ours_fma']:.0f} | {r['best']} | {r['best_us']:.1f} | {r['ratio']:.2f} |"
        )
    wrong = results.errors(data)
    lines += ["", f"Outputs that are not those of ref: {len(wrong)}"] + [f"- {n}: {m}" for n, m in wrong.items()]
    (a.out / "report.md").write_text("\n".join(lines) + "\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="folder that has bin/bench_kernels, built with CUDA")
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "build/gpu-results")
    p.add_argument("--venv", type=pathlib.Path, help="environment with torch, diffusers, transformers; none: Darkroom and libraries alone")
    p.add_argument("--model", default="sd15", help="sd15 sd21 sdxl")
    p.add_argument("--dtype", choices=["bf16", "f16"], default="bf16")
    p.add_argument("--quick", action="store_true")
    a = p.parse_args()
    program = a.build / "bin/bench_kernels"
    if not program.exists():
        p.error(f"{program}: is not there; configure with -DDARKROOM_CUDA=ON and build bench_kernels, bench_picture and sdrun")
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "machine.json").write_text(json.dumps(machine.describe() | {"gpu": card()}, indent=1) + "\n")
    kernel_file, failed = kernels(a)
    if failed:
        # It has said why in one line: no GPU, or outputs that are wrong; with those the rest is still worth its time.
        if failed != 1 or not kernel_file.exists() or kernel_file.stat().st_size == 0:
            return failed
    if a.venv:
        failed |= sdpa(a, kernel_file)
    picture_file, worse = pictures(a)
    failed |= worse
    files = [f for f in (kernel_file, picture_file) if f.exists()]
    failed |= run([sys.executable, ROOT / "bench/report.py", *files, "--out", a.out / "report.html"])
    markdown(a, kernel_file, picture_file)
    print(f"{a.out}: {', '.join(sorted(os.listdir(a.out)))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""PyTorch's scaled_dot_product_attention on the attention layers of a file of bench_kernels, on a GPU: sdpa.py KERNELS.json --out FILE

What it writes is a file of bench_kernels too, so that compare.py and report.py read both: for each plain attention layer its time
as `torch_sdpa`, by events, with a cold and a warm L2, over PyTorch's own choice of backend.
"""

import argparse
import json
import math
import pathlib
import re
import statistics

FLUSH_BYTES = 256 << 20
RUNS = 50


def layers(data):
    """{layer: (heads, [q, k, v shapes])} of "attention/VARIANT/plain/8,heads/BxNxC+BxMxC+BxMxC->…/cold"."""
    found = {}
    for b in data["benchmarks"]:
        name = b["name"].removesuffix("/manual_time")
        match = re.match(r"attention/[^/]*/(plain/([^/]*)/([0-9x]+)\+([0-9x]+)\+([0-9x]+)->[0-9x]+)/(cold|warm)", name)
        if not match or "causal" in match[2]:
            continue
        heads = int(match[2].split(",")[0])
        found[match[1]] = (heads, [[int(n) for n in match[i].split("x")] for i in (3, 4, 5)])
    return found


def times(torch, run, cold):
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device="cuda")
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(3):
        run()
    seconds = []
    for _ in range(RUNS):
        flush.zero_()  # also keeps the device busy until the host has queued the rest
        if not cold:
            run()
        begin.record()
        run()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(seconds)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kernels", type=pathlib.Path)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--dtype", choices=["bf16", "f16"], default="bf16")
    a = p.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("sdpa.py: PyTorch sees no GPU")
    data = json.loads(a.kernels.read_text())
    peak = float(data["context"].get("bf16 dot peak", data["context"]["FMA peak"]).split()[0]) * 1e9
    bandwidth = float(data["context"]["bandwidth"].split()[0]) * 1e9
    dtype = torch.bfloat16 if a.dtype == "bf16" else torch.float16
    results = []
    for layer, (heads, shapes) in layers(data).items():
        q, k, v = (
            torch.randn(b, n, heads, c // heads, device="cuda", dtype=dtype).transpose(1, 2) for b, n, c in shapes
        )
        run = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)
        (batch, n, width), m = shapes[0], shapes[1][1]
        flops, moved = 4 * batch * n * m * width, 2 * batch * width * (2 * n + 2 * m)
        for state in ("cold", "warm"):
            with torch.inference_mode():
                s = times(torch, run, state == "cold")
            rates = {"GFLOP/s": flops / s / 1e9, "GB/s": moved / s / 1e9, "%FMA": 100 * flops / s / peak, "%BW": 100 * moved / s / bandwidth}
            if not math.isfinite(s):
                raise SystemExit(f"sdpa.py: {layer}: no time")
            results.append({"name": f"attention/torch_sdpa/{layer}/{state}/manual_time", "real_time": s * 1e6, "time_unit": "us", **rates})
            print(f"{layer} {state}: {s * 1e6:.1f} us, {flops / s / 1e12:.0f} TFLOP/s")
    context = data["context"] | {"torch": f"{torch.__version__}, CUDA {torch.version.cuda}"}
    a.out.write_text(json.dumps({"context": context, "benchmarks": data["benchmarks"] + results}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Result files of bench_kernels (Google Benchmark's JSON), bench/picture and bench/fusion, read into one form."""

import json
import pathlib
import statistics

LIBRARIES = ("onednn", "onednn_matmul", "onednn_ip", "openblas", "blis", "cublaslt", "cudnn", "torch_sdpa")


def load(path):
    return json.loads(pathlib.Path(path).read_text())


def is_kernels(data):
    return "benchmarks" in data


def kernel_times(data):
    """{(op, variant, layer): {"us", "gflops", "fma", "bw", "gbs"}}; the median where there were repetitions."""
    found = {}
    for b in data["benchmarks"]:
        if b.get("error_occurred") or b.get("run_type") == "aggregate":
            continue
        name = b["name"].removesuffix("/real_time").removesuffix("/manual_time")
        op, variant, layer = name.split("/", 2)
        found.setdefault((op, variant, layer), []).append(b)
    times = {}
    for key, runs in found.items():
        middle = sorted(runs, key=lambda b: b["real_time"])[len(runs) // 2]
        times[key] = {
            "us": middle["real_time"],
            "gflops": middle.get("GFLOP/s", 0),
            "gbs": middle.get("GB/s", 0),
            "fma": middle.get("%FMA", 0),
            "bw": middle.get("%BW", 0),
            "of_ours": middle.get("of_ours"),
        }
    return times


def errors(data):
    return {b["name"]: b["error_message"] for b in data.get("benchmarks", []) if b.get("error_occurred")}


def against_libraries(data):
    """A row a plain layer: our best entry, the libraries' best, and theirs / ours (above 1: we are faster)."""
    layers = {}
    for (op, variant, layer), t in kernel_times(data).items():
        if layer.startswith("plain/"):
            layers.setdefault((op, layer.removeprefix("plain/")), {})[variant] = t
    rows = []
    for (op, layer), by_variant in layers.items():
        ours = {v: t for v, t in by_variant.items() if v not in LIBRARIES and v != "ref"}
        theirs = {v: t for v, t in by_variant.items() if v in LIBRARIES}
        if not ours or not theirs:
            continue
        mine = min(ours, key=lambda v: ours[v]["us"])
        # Where they ran in turn, the median of the rounds' ratios counts, not the ratio of medians.
        ratios = {v: t["of_ours"] or t["us"] / ours[mine]["us"] for v, t in theirs.items()}
        best = min(ratios, key=ratios.get)
        ratio = ratios[best]
        equal = 0.97 <= ratio < 1 and theirs[best]["fma"] > 90
        rows.append(
            {
                "op": op,
                "layer": layer,
                "ours": mine,
                "ours_us": ours[mine]["us"],
                "ours_fma": ours[mine]["fma"],
                "best": best,
                "best_us": theirs[best]["us"],
                "best_fma": theirs[best]["fma"],
                "all": {v: t["us"] for v, t in theirs.items()},
                "ratio": ratio,
                "held": ratio >= 1 or equal,
            }
        )
    return sorted(rows, key=lambda r: r["ratio"])


def key_of(record):
    """What makes two records the same measurement."""
    fields = ("model", "part", "precision", "size", "engine", "label", "threads", "steps")
    on_gpu = ("cuda",) if record.get("device") == "cuda" else ()
    return on_gpu + tuple(record.get(f) or "" for f in fields) + tuple(sorted(record.get("environment", {}).items()))


def medians(data):
    """{name: seconds} of any result file: the median of all runs of one measurement."""
    if is_kernels(data):
        return {"/".join(k): t["us"] * 1e-6 for k, t in kernel_times(data).items()}
    runs = {}
    for r in data["records"]:
        name = " ".join(str(x) for x in key_of(r) if x)
        runs.setdefault(name, []).extend(r["seconds"])
    return {name: statistics.median(s) for name, s in runs.items()}

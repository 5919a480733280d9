#!/usr/bin/env python3
"""Leaves one fusion pass out at a time and appends what that costs to a file: time, peak memory, bytes moved, arena.

    bench/fusion/run.py --model sd15 --part step --size 256 --out fusion.json

Each pass is measured against the whole list in turn, A B A B …; the pair's first record is the whole list. A pass that
changed nothing in the part's plan is left out.
"""

import argparse
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from picture import run as picture  # noqa: E402
from picture.workers import alternate  # noqa: E402


def passes(a, part):
    worker = picture.darkroom_worker(a, part)
    worker.close()
    return {name: count for name, count in worker.about["plan"]["passes"].items() if count > 0}


def leave_out(a, part, name):
    pair, workers = f"{part}-without-{name}-{time.time_ns()}", []
    try:
        workers = [picture.darkroom_worker(a, part), picture.darkroom_worker(a, part, ["--no-fuse", name])]
        alternate(workers, a.rounds)
        for w in workers:
            w.close()
        records = [picture.record(w, a, part, pair) for w in workers]
        for r, label in zip(records, ("all passes", f"without {name}")):
            r["label"], r["pass"] = label, name
        return records
    finally:
        for w in workers:
            w.kill()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    picture.add_model_arguments(p)
    p.add_argument("--part", choices=["text", "step", "decode"], default="step")
    p.add_argument("--passes", help="only these, with commas between")
    a = p.parse_args()
    found = passes(a, a.part)
    for name in a.passes.split(",") if a.passes else found:
        if name not in found:
            p.error(f"--passes {name}: changes nothing here; {', '.join(found)} do")
        whole, without = leave_out(a, a.part, name)
        more = lambda key: without["plan"][key] / whole["plan"][key]
        print(
            f"{name:18} {found[name]:4} x  time {without['median'] / whole['median']:.3f}  "
            f"peak {without['peak_bytes'] / whole['peak_bytes']:.3f}  bytes {more('bytes'):.3f}  arena {more('arena_bytes'):.3f}"
        )
        if a.out:
            picture.append(a.out, [whole, without], kind="fusion")


if __name__ == "__main__":
    main()

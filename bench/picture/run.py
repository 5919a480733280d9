#!/usr/bin/env python3
"""Times the parts of making a picture, Darkroom and another engine in turn, and appends what it measured to a file.

    bench/peers/setup.sh build/bench-venv
    bench/picture/run.py --prepare   --model sd15 --peers openvino --precision f32
    bench/picture/run.py --parts text,step,decode --model sd15 --peers openvino --precision f32 --out sd15.json
    bench/picture/run.py --parts process --model model/scenes.sdw --out scenes.json     # sdrun, from start to file

Each pair runs A B A B …, after a warm-up, so that a machine that changes its speed does so for both. The file has a
record a worker: every time, the median, the peak of resident memory with mapped pages, versions, what the plan holds.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

from common import machine  # noqa: E402
from picture.workers import Worker, WorkerError, alternate  # noqa: E402

PARTS = ("text", "step", "decode", "picture", "process")


def darkroom_worker(a, part, extra=()):
    command = [a.build / "bin/bench_picture", "--model", a.model, "--part", part, "--precision", a.precision]
    command += ["--size", a.size, "--threads", a.threads, "--steps", a.steps]
    command += ["--device", a.device, *a.darkroom, *extra]
    return Worker("darkroom", command, {"DARKROOM_ISA": a.isa} if a.isa else {})


def peer_worker(a, engine, part):
    command = [a.venv / "bin/python", ROOT / "bench/peers/worker.py", "--engine", engine, "--part", part]
    command += ["--configs", configs(a), "--models", a.work, "--precision", a.precision, "--size", a.size]
    command += ["--threads", a.threads, "--steps", a.steps, "--device", a.device]
    return Worker(engine, command, {"ONEDNN_MAX_CPU_ISA": a.isa.upper()} if a.isa else {})


def configs(a):
    return a.work / "configs" / pathlib.Path(a.model).stem


def prepare(a, parts):
    subprocess.run([a.build / "bin/bench_picture", "--model", a.model, "--configs", configs(a)], check=True)
    wanted = ("text", "step", "decode") if "picture" in parts else parts
    for engine in a.peers:
        if engine.startswith("pytorch"):
            continue  # needs no file
        for part in wanted:
            command = [a.venv / "bin/python", ROOT / "bench/peers/convert.py", configs(a), a.work, "--part", part]
            subprocess.run([*command, "--engine", engine, "--precision", a.precision], check=True)


def record(worker, a, part, pair):
    return {
        "engine": worker.name,
        "part": part,
        "precision": a.precision,
        "model": pathlib.Path(a.model).stem,
        "size": a.size,
        "threads": a.threads,
        "steps": a.steps if part == "picture" else None,
        "device": a.device,
        "pair": pair,
        "label": a.label,
        "seconds": worker.seconds,
        "median": statistics.median(worker.seconds),
        "peak_bytes": worker.peak_bytes,
        "device_bytes": worker.device_bytes,
        "environment": worker.environment,
        **{k: v for k, v in worker.about.items() if k != "engine"},
    }


def run_pair(a, engine, part):
    """Records of one pairing; engine None: Darkroom alone."""
    begin, pair, workers = time.monotonic(), f"{part}-{a.precision}-{engine}-{time.time_ns()}", []
    try:
        workers.append(darkroom_worker(a, part))
        if engine:
            workers.append(peer_worker(a, engine, part))
        limit = a.limit - (time.monotonic() - begin) if a.limit else None
        alternate(workers, a.rounds, limit_seconds=limit)
        for w in workers:
            w.close()
        return [record(w, a, part, pair) for w in workers]
    finally:
        for w in workers:
            w.kill()


def run_process(a):
    """sdrun from its start to the written file, `rounds` times: what a person waits for."""
    with tempfile.TemporaryDirectory() as folder:
        command = [a.build / "bin/sdrun", "-q", "-m", a.model, "-o", f"{folder}/picture.png", *a.darkroom]
        command = [str(c) for c in command] + ["a red circle above a blue square"]
        seconds, peak = [], 0
        for i in range(a.rounds + 1):
            begin = time.perf_counter()
            child = os.posix_spawn(
                command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
            )
            _, status, usage = os.wait4(child, 0)
            took = time.perf_counter() - begin
            if status != 0:
                raise WorkerError(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
            peak = max(peak, usage.ru_maxrss * 1024)
            if i > 0:  # the first fills the page cache
                seconds.append(took)
    return {
        "engine": "darkroom",
        "part": "process",
        "precision": a.precision,
        "model": pathlib.Path(a.model).stem,
        "label": a.label,
        "seconds": seconds,
        "median": statistics.median(seconds),
        "peak_bytes": peak,
        "command": command[1:],
    }


def append(path, records, kind="picture"):
    data = json.loads(path.read_text()) if path.exists() else {"kind": kind, "records": []}
    context = machine.describe()
    data["context"] = data.get("context") or context
    for r in records:
        r["when"], r["commit"] = context["date"], context["commit"]
    data["records"] += records
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(data, indent=1) + "\n")
    temporary.replace(path)


def say(records):
    for r in records:
        peak = f"{(r.get('device_bytes') or r['peak_bytes']) / 1e9:6.2f} GB"
        print(f"{r['part']:8} {r['precision']:5} {r['engine']:12} {r['median']:9.4f} s  of {len(r['seconds'])}  {peak}  {r.get('note', '')}")
    if len(records) == 2:
        print(f"         darkroom / {records[1]['engine']}: {records[0]['median'] / records[1]['median']:.3f}")


def comma(text):
    return [t for t in text.split(",") if t]


def add_model_arguments(p):
    """What bench/fusion asks for too."""
    p.add_argument("--model", default="sd15", help="sd15 sd21 sdxl (weights from a rule), a .sdw file or a folder")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--precision", choices=["f32", "bf16", "f16", "int8", "int8_bf16"], default="f32")
    p.add_argument("--size", type=int, default=512)
    p.add_argument("--steps", type=int, default=2, help="of a whole picture")
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--isa", choices=["avx2"], help="hold Darkroom and oneDNN to it")
    p.add_argument("--darkroom", type=comma, default=[], help="more arguments for bench_picture (or sdrun), with commas")
    p.add_argument("--label", default="", help="a word that the records carry")
    p.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="folder that has bin/bench_picture")
    p.add_argument("--out", type=pathlib.Path, help="JSON; records are added to it")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(p)
    p.add_argument("--parts", type=comma, default=["text", "step", "decode"], help=", ".join(PARTS))
    p.add_argument("--peers", type=comma, default=[], help="openvino, onnxruntime, pytorch, pytorch_compile; none: Darkroom alone")
    p.add_argument("--limit", type=float, help="seconds for a pairing; fewer rounds where it would take longer")
    p.add_argument("--venv", type=pathlib.Path, default=ROOT / "build/bench-venv", help="that setup.sh filled")
    p.add_argument("--work", type=pathlib.Path, default=ROOT / "build/bench-models", help="converted models are kept here")
    p.add_argument("--prepare", action="store_true", help="only convert the models that the peers need")
    a = p.parse_args()
    for part in a.parts:
        if part not in PARTS:
            p.error(f"--parts {part}: there are {', '.join(PARTS)}")
    return a


def main():
    a = arguments()
    if a.prepare:
        return prepare(a, a.parts)
    failed = 0
    for part in a.parts:
        for engine in a.peers or [None]:
            try:
                records = [run_process(a)] if part == "process" else run_pair(a, engine, part)
            except WorkerError as e:
                failed += 1
                print(f"{part} {a.precision}: {e}", file=sys.stderr)
                continue
            say(records)
            if a.out:
                append(a.out, records)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What a result file says about where its numbers come from."""

import datetime
import os
import pathlib
import platform
import re
import subprocess

WORTH_KNOWING = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_tile")


def _first(pattern, text, default=""):
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip() if found else default


def commit():
    """The source's commit, with a + where files differ from it; empty outside of a repository."""
    here = pathlib.Path(__file__).parent
    git = lambda *a: subprocess.run(["git", "-C", here, *a], capture_output=True, text=True, check=False).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def describe():
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    flags = set(_first(r"^flags\s*:(.*)$", cpuinfo).split())
    memory = _first(r"^MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text(), "0")
    return {
        "cpu": _first(r"^model name\s*:(.*)$", cpuinfo, platform.machine()),
        "family": _first(r"^cpu family\s*:(.*)$", cpuinfo) + "/" + _first(r"^model\s*:(.*)$", cpuinfo),
        "isa": [f for f in WORTH_KNOWING if f in flags],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory) * 1024,
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }

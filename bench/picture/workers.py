"""Processes that each hold one engine with one part of a model, and run it when told: see bench/peers/worker.py."""

import json
import os
import subprocess
import time

# What would hold an engine back or favour it without being said.
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT")
SETTLE_SECONDS = 0.3  # after a run its threads may spin for a while


class WorkerError(RuntimeError):
    pass


class Worker:
    def __init__(self, name, command, environment=None):
        self.name, self.command, self.environment = name, [str(c) for c in command], dict(environment or {})
        self.seconds, self.peak_bytes, self.device_bytes = [], 0, None
        env = {k: v for k, v in os.environ.items() if k not in UNSET} | self.environment
        self.process = subprocess.Popen(
            self.command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.about = self._line()

    def _line(self):
        """The next line of JSON; engines may print other things between."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        lines = self.process.stderr.read().strip().splitlines()
        raise WorkerError(f"{self.name}: {lines[-1] if lines else f'ended with {self.process.wait()}'}")

    def run(self, counts=True):
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        seconds = self._line()["seconds"]
        if counts:
            self.seconds.append(seconds)
        time.sleep(SETTLE_SECONDS)
        return seconds

    def close(self):
        self.process.stdin.close()
        try:
            last = self._line()
            self.peak_bytes, self.device_bytes = last["peak_bytes"], last.get("device_bytes")
        finally:
            self.process.wait()

    def kill(self):
        self.process.kill()
        self.process.wait()


def alternate(workers, rounds, warmups=1, limit_seconds=None):
    """Runs all in turn, `rounds` times; fewer where another round would pass the limit, but at least one."""
    begin = time.monotonic()
    for _ in range(warmups):
        for w in workers:
            w.run(counts=False)
    for i in range(rounds):
        start = time.monotonic()
        for w in workers:
            w.run()
        took = time.monotonic() - start
        if limit_seconds and i + 1 < rounds and time.monotonic() - begin + took > limit_seconds:
            break

"""Worker processes of the benchmarks: started once for a setting,
asked for one timing at a time."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import ROOT, spread
from benchmarks.venvs import last_line
from jaxrl.errors import JaxrlError

PATIENCE_SECONDS = 3600.0


class Job(NamedTuple):
    """What a worker is started with."""

    python: str
    module: str
    setting: dict[str, Any]
    patience: float = PATIENCE_SECONDS  # for any one answer
    code: Path = ROOT  # where benchmarks/ and jaxrl/ are


class Worker:
    """A process that runs `benchmarks.peers.MODULE` (see benchmarks/peers/protocol.py) and waits
    between timings."""

    def __init__(self, job: Job) -> None:
        self._folder, self._patience = tempfile.TemporaryDirectory(), job.patience
        self._log = Path(self._folder.name) / "stderr"
        command = [job.python, "-m", f"benchmarks.peers.{job.module}", json.dumps(job.setting)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with self._log.open("w") as log:
            # A group of its own: with it end the processes that it has started.
            self._process = subprocess.Popen(
                command,
                cwd=self._folder.name,
                env=environment(job.code),
                stderr=log,
                start_new_session=True,
                **pipes,
            )
        self._pending = b""

    def ready(self) -> dict[str, Any]:
        """What it says once it has compiled and warmed up."""
        return self._answer()

    def run(self) -> dict[str, Any]:
        """One timing."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"run\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise JaxrlError(self._end()) from None
        return self._answer()

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._folder.cleanup()

    def _answer(self) -> dict[str, Any]:
        """The next line of its output, or an error that tells how it ended."""
        assert self._process.stdout is not None
        until = time.monotonic() + self._patience
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(until - time.monotonic()):
                    raise JaxrlError(f"no answer within {self._patience:.0f} seconds")
                read = os.read(self._process.stdout.fileno(), 65536)
                if not read:
                    raise JaxrlError(self._end())
                self._pending += read
        line, _, self._pending = self._pending.partition(b"\n")
        return json.loads(line)

    def _end(self) -> str:
        """Why there is no worker any more."""
        code = self._process.wait()
        if code == -9:
            return "killed by the system, as a process is that takes too much memory"
        return last_line(self._log)


def take_turns(
    jobs: Mapping[str, Job], repeats: int, begin: Callable[[str], None], alternate: bool = False
) -> dict[str, dict[str, Any]]:
    """Start a worker for every job, then rounds in which each is timed once: {name: its summary,
    or its error}.

    One that fails or does not answer in time is ended at once, so that it takes no time from the
    others. With `alternate`, every second round goes backwards: A B, B A, A B, …
    """
    results: dict[str, dict[str, Any]] = {}
    timings: dict[str, list[dict[str, Any]]] = {name: [] for name in jobs}
    workers: dict[str, Worker] = {}
    try:
        for turn in range(1 + repeats):
            order = list(jobs)
            if alternate and turn and turn % 2 == 0:
                order.reverse()
            for name in order:
                if "error" in results.get(name, {}):
                    continue
                begin(f"{name}: {f'round {turn}' if turn else 'compiles'}")
                try:
                    if turn:
                        timings[name].append(workers[name].run())
                    else:
                        workers[name] = Worker(jobs[name])
                        results[name] = workers[name].ready()
                except JaxrlError as error:
                    results[name] = {"error": str(error)}
                    workers.pop(name).close()
    finally:
        for worker in workers.values():
            worker.close()
    return {
        name: found if "error" in found else found | summary(timings[name])
        for name, found in results.items()
    }


def summary(timings: list[dict[str, Any]]) -> dict[str, Any]:
    """Steps per second over the rounds, of each variant and of the one with the best median."""
    variants = {
        name: spread([timing["rates"][name] for timing in timings]) for name in timings[0]["rates"]
    }
    best = max(variants, key=lambda name: variants[name]["median"])
    return {
        "steps_per_second": variants[best],
        "best": best,
        "variants": variants,
        "seconds": statistics.median(sum(timing["seconds"].values()) for timing in timings),
        "peak_bytes": timings[-1]["peak_bytes"],
    }


def environment(code: Path) -> dict[str, str]:
    """The variables of a worker: cold compilations, only this folder's packages in sight,
    and a shared accelerator.

    It works in a folder that is thrown away: MuJoCo writes its log into the working directory.
    """
    kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    ours = {"PYTHONPATH": str(code), "JAX_ENABLE_COMPILATION_CACHE": "false"}
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | kept | ours

"""Worker processes of the throughput benchmark: started once for a setting, asked for one timing at a time."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT
from benchmarks.venvs import last_line
from jaxrl.errors import JaxrlError

PATIENCE_SECONDS = 3600.0


class Worker:
    """A process that runs `benchmarks.peers.MODULE` (see benchmarks/peers/protocol.py) and waits between timings."""

    def __init__(self, python: str, module: str, setting: dict[str, Any]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "stderr"
        command = [python, "-m", f"benchmarks.peers.{module}", json.dumps(setting)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
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
        assert self._process.stdin is not None
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def _answer(self) -> dict[str, Any]:
        """The next line of its output, or an error that tells how it ended."""
        assert self._process.stdout is not None
        until = time.monotonic() + PATIENCE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(until - time.monotonic()):
                    raise JaxrlError(f"no answer within {PATIENCE_SECONDS:.0f} seconds")
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


def environment() -> dict[str, str]:
    """The variables of a worker: cold compilations, our own packages out of sight, and a shared accelerator."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | kept | {"JAX_ENABLE_COMPILATION_CACHE": "false"}

"""The command line. `jaxrl COMMAND --help` explains each command; heavy imports wait until one is chosen."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# More shares of one CPU than this have not been measured.
MOST_CORES = 16

USAGE = """usage: jaxrl COMMAND ...

  train ALGORITHM --env ID     train, evaluate, save and plot            jaxrl train ppo --env CartPole-v1
  sweep ALGORITHM --env ID     try hyperparameters side by side          jaxrl sweep ppo --env CartPole-v1 \\
                                                                           --over learning_rate=1e-4,1e-3
  resume RUN                   go on with a run that was stopped         jaxrl resume runs/mine
  eval RUN                     evaluate a saved policy                   jaxrl eval runs/mine --episodes 1000
  plot RUN [RUN ...]           draw learning curves, or compare runs     jaxrl plot runs/mine runs/yours
  render RUN                   draw an episode as a GIF                  jaxrl render runs/mine
  envs [TEXT]                  list the environments                     jaxrl envs minatar

jaxrl COMMAND --help explains a command; jaxrl train ppo --env ID --help shows the settings tuned for ID.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (the entry point of the `jaxrl` script)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    if arguments[0] in ("-V", "--version"):
        from jaxrl import __version__

        sys.stdout.write(f"jaxrl {__version__}\n")
        return 0
    sys.path.insert(0, os.getcwd())  # --env package.module:Factory may lie in the folder one works in
    prepare_process(arguments)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _run(arguments)
        except KeyboardInterrupt:  # while there is nothing to save yet, or pressed twice
            sys.stderr.write("interrupted\n")
            return 130


def _run(arguments: list[str]) -> int:
    """Run a command; what ends it early becomes one message on stderr and an exit status."""
    from jaxrl import commands
    from jaxrl.errors import JaxrlError, unknown
    from jaxrl.train.loop import RunWarning

    warnings.simplefilter("always", RunWarning)  # whatever PYTHONWARNINGS says of other people's
    table: dict[str, Callable[[list[str]], int]] = {
        "train": commands.train,
        "sweep": commands.sweep,
        "resume": commands.resume,
        "eval": commands.evaluate,
        "plot": commands.plot,
        "render": commands.render,
        "envs": commands.environments,
    }
    try:
        if arguments[0] not in table:
            raise unknown("command", arguments[0], table)
        return table[arguments[0]](arguments[1:])
    except JaxrlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except SystemExit as stop:  # how the parser ends: after --help, or after it has printed what is wrong
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has left; what it did not read is nobody's loss.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """A warning as one line, without the place in the code that a user of the command line has no use for."""
    sys.stderr.write(f"warning: {message}\n")


def prepare_process(arguments: Sequence[str]) -> None:
    """What must be in the environment before JAX is imported: devices, determinism flags, the compilation cache."""
    # A core a device: twice as fast on two as both cores behind every small matrix product (benchmarks/NOTES.md).
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(min(cores, MOST_CORES)))
        os.environ.setdefault("PJRT_NPROC", "1")  # no further threads behind each of them
    if "--deterministic" in arguments:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
        os.environ["XLA_FLAGS"] = flags
        if "--quiet" not in arguments:
            sys.stdout.write(f"XLA_FLAGS={flags}\n")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "jaxrl" / "xla"
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if os.access(cache, os.W_OK):  # else JAX would warn of every compilation that it cannot keep
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))


if __name__ == "__main__":
    sys.exit(main())

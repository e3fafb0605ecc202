"""The command line; `jaxrl COMMAND --help` explains each command.

Heavy imports wait until a command is chosen. There is one module per command, or per pair of them,
and in it one frozen dataclass per command, which tyro reads the command line into.
The names of the command and of the algorithm stand first; then tyro reads what the defaults depend
on (the environment, and parts that are chosen by name), and then all the rest.
"""

# Only what Python itself has imported by now: in `python -m jaxrl.cli` the working folder is still
# searched first.
from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

# More shares of one CPU than this have not been measured.
MOST_CORES = 16
# Columns of a terminal, below which text is cut off rather than folded further.
NARROWEST = 20

USAGE = """usage: jaxrl COMMAND ...

  train ALGORITHM --env ID  train, evaluate, save and plot     jaxrl train ppo --env CartPole-v1
  sweep ALGORITHM --env ID  try hyperparameters side by side   jaxrl sweep ppo --env CartPole-v1 \\
                                                                 --over learning_rate=1e-4,1e-3
  resume RUN                go on with a run that was stopped  jaxrl resume runs/mine
  eval RUN                  evaluate a saved policy            jaxrl eval runs/mine --episodes 1000
  plot RUN [RUN ...]        draw learning curves of runs       jaxrl plot runs/mine runs/yours
  report RUN [RUN ...]      all about runs, as one web page    jaxrl report runs/mine \\
                                                                 --output mine.html
  export RUN [RUN ...]      all that runs recorded, as CSV     jaxrl export runs/mine --csv mine.csv
  render RUN                draw an episode as a GIF           jaxrl render runs/mine
  collect RUN               record episodes with their states  jaxrl collect runs/mine
  snapshot RUN              keep states to begin episodes at   jaxrl snapshot runs/mine
  snapshot info BANK        draw what a bank of them holds     jaxrl snapshot info bank.npz
  envs [TEXT]               list the environments              jaxrl envs minatar
  dataset COMMAND           list, build and convert datasets   jaxrl dataset list
  new KIND PATH             begin an algorithm of your own     jaxrl new algorithm mine.py
                              or an environment                jaxrl new environment corridor.py
  check NAME                hold either against its contract   jaxrl check mine:a2c

jaxrl COMMAND --help explains a command.
jaxrl train ppo --env ID --help shows the settings tuned for ID, --help-all every one.
"""

# Those that do more than print: they go on where nobody reads.
WORKING = (
    *("train", "sweep", "resume", "plot", "report", "export", "render"),
    *("collect", "snapshot", "dataset", "new"),
)

# The module and the function behind each command.
COMMANDS = {
    "train": ("train", "train"),
    "sweep": ("train", "sweep"),
    "resume": ("resume", "resume"),
    "eval": ("evaluate", "evaluate"),
    "plot": ("draw", "plot"),
    "report": ("report", "report"),
    "export": ("export", "export"),
    "render": ("draw", "render"),
    "collect": ("collect", "collect"),
    "snapshot": ("snapshot", "snapshot"),
    "envs": ("envs", "environments"),
    "dataset": ("dataset", "dataset"),
    "new": ("new", "new"),
    "check": ("check", "check"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (the entry point of the `jaxrl` script)."""
    from jaxrl.train.output.voice import speaking

    if arguments is None:
        arguments = sys.argv[1:]
    name, *words = arguments or ["--help"]
    asks = not {"-h", "--help", "--help-all"}.isdisjoint(words)
    with speaking(only_product=name not in WORKING or asks):
        try:
            status = _main(name, words)
            sys.stdout.flush()
        except SystemExit as stop:  # it has nothing but words, and cannot say them
            status = _status(stop)
        return status


def _main(name: str, words: list[str]) -> int:
    """Run one command; a signal that stops it becomes a word and an exit status."""
    if name in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    if name in ("-V", "--version"):
        from jaxrl import __version__

        sys.stdout.write(f"jaxrl {__version__}\n")
        return 0
    from jaxrl.cli.surroundings import refused_xla_flags, why

    if cause := refused_xla_flags():
        sys.stderr.write(f"error: {printable(cause)}\n")
        return 2
    from jaxrl.train.signals import StopSignals

    prepare_process()
    with warnings.catch_warnings(), StopSignals(of_command=True) as stop:
        warnings.showwarning = _show_warning
        try:
            return _run(name, words)
        except KeyboardInterrupt:  # while there is nothing to save yet
            pass
        except Exception as error:
            # What was interrupted may fail in its own way: an import, or a callback of JAX.
            if not stop.requested():
                if (cause := why(error)) is None:
                    raise
                sys.stderr.write(f"error: {printable(cause)}\n")
                return 2
        sys.stderr.write("interrupted\n")
        return stop.status


def _run(name: str, words: list[str]) -> int:
    """Run a command; an error in the request becomes one message on stderr."""
    from jaxrl.errors import JaxrlError, RunWarning

    warnings.simplefilter("always", RunWarning)  # whatever PYTHONWARNINGS says of other people's
    try:
        return _command(name)(words)
    except JaxrlError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        return 2
    except SystemExit as stop:  # the parser, after --help, or after it has printed what is wrong
        return _status(stop)


def _status(stop: SystemExit) -> int:
    """The exit status that was asked for."""
    return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def _command(name: str) -> Callable[[list[str]], int]:
    """The function behind a command; the modules of the others are not imported."""
    from jaxrl.errors import unknown

    if name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    module, function = COMMANDS[name]
    return getattr(importlib.import_module(f"jaxrl.cli.{module}"), function)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Print a warning as one line, without the place in the code: a user has no use for that."""
    sys.stderr.write(f"warning: {printable(str(message))}\n")


def printable(text: str) -> str:
    """`text` as a terminal may be sent it: a quotation from a file could hold control codes."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def prepare_process() -> None:
    """Set what is read at imports: JAX's devices and cache, what draws, and how wide help is.

    Commands draw without a window. A notebook's MPLBACKEND names one that may not be there, and
    nothing that imports matplotlib begins then, neither pictures nor gymnax.
    """
    from shutil import get_terminal_size

    os.environ["MPLBACKEND"] = "agg"
    if get_terminal_size().columns < NARROWEST:  # the parser's help may not end
        os.environ["COLUMNS"] = str(NARROWEST)
    # One device per core: on two cores twice as fast as both behind every small matrix product
    # (benchmarks/NOTES.md).
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        if hasattr(os, "sched_getaffinity"):
            cores = len(os.sched_getaffinity(0))
        else:
            cores = os.cpu_count() or 1
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", str(min(cores, MOST_CORES)))
        os.environ.setdefault("PJRT_NPROC", "1")  # no further threads behind each of them
    # Empty counts as unset, and a "~" that stays is of a user without a home.
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    cache = os.path.join(home, "jaxrl", "xla")
    if not os.path.isabs(home):
        return
    with contextlib.suppress(OSError):
        os.makedirs(cache, exist_ok=True)
    if os.access(cache, os.W_OK):  # else JAX would warn of every compilation that it cannot keep
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)

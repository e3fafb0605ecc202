"""Whether what is asked for fits, found out before anything is compiled.

Into memory: the state of all members, which is known from its shapes alone; what a compiled program
needs besides is not, so that whatever is refused here could not have run. And into the whole
numbers of JAX, int32, in which iterations, rows and episodes are counted.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.config import budget_field
from jaxrl.envs.api import Environment
from jaxrl.envs.play import play_begin
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.types import Agent, Algorithm, Budget, Key, PyTree, zeros_of

# The whole numbers of JAX are below it.
INT32 = 2**31
# What jaxlib says when a device has no memory left.
EXHAUSTED = ("RESOURCE_EXHAUSTED", "Out of memory")


def check_state(
    factory: Callable[..., Algorithm],
    env: Environment,
    config: Any,
    inputs: dict[str, PyTree],
    members: int,
) -> None:
    """Refuse a population of learners that can be counted in no int32, or held by no memory.

    `config` holds plain numbers, or arrays of swept ones.
    """
    budgets = []

    def init(numbers: Any, key: Key) -> PyTree:
        algorithm = factory(env, numbers, **inputs)
        budgets.append(algorithm.budget)
        return algorithm.init(key)

    first = jax.tree.map(lambda leaf: np.float32(np.ravel(leaf)[0]), config)
    state = jax.eval_shape(init, first, jax.random.key(0))
    _check_budget(budgets[0], config)
    # What a rollout keeps at least: its observations.
    rows = getattr(config, "transitions_per_iteration", 0)
    names = ("num_envs", "num_steps", "replay_capacity")
    sizes = [f"{name}={getattr(config, name)}" for name in names if hasattr(config, name)]
    _check_memory(
        members * (tree_bytes(state) + rows * _observation_bytes(env)),
        f"{members} members (seeds of settings) with {', '.join(sizes) or 'their states'}",
    )


def _check_budget(budget: Budget, config: Any) -> None:
    """Refuse more iterations than a state can count."""
    if budget.steps >= INT32:
        found = budget_field(config)
        name = found[0] if found else "the budget"
        raise JaxrlError(
            f"{name} is {budget.steps * budget.per_step}, which makes {budget.steps} iterations of "
            f"{budget.per_step} {budget.unit}, but they are counted up to {INT32 - 1}: choose at "
            f"most {(INT32 - 1) * budget.per_step}."
        )


def check_episodes(env: Environment, agent: Agent, episodes: int, members: int) -> None:
    """Refuse more episodes at once than can be counted, or than memory could hold."""
    if episodes >= INT32:
        raise JaxrlError(
            f"evaluation_episodes, or --episodes, is {episodes}, but they are counted up to "
            f"{INT32 - 1}."
        )

    def begin(key: Key) -> PyTree:
        key_policy, key_play = jax.random.split(key)
        return play_begin(env, agent, agent.init(key_policy), key_play, episodes)

    begun = jax.eval_shape(begin, jax.random.key(0))
    _check_memory(
        members * tree_bytes(begun), f"{episodes} episodes at once, of {members} members,"
    )


def check_rows(piece: int, steps: int, episodes: int, kept: int) -> None:
    """Refuse episodes of which no memory could hold the first steps; warn where it may be too many.

    Args:
      piece: the bytes of all rows of `steps` steps, which are there at once.
      steps: how many these are.
      episodes: how many are played.
      kept: the most rows of an episode that are gathered, in the end twice (as pieces, and put
        together).
    """
    less = "Fewer --episodes need less."
    check_host_memory(piece, f"{steps} steps of {episodes} episodes", less)
    most = 2 * kept * piece // steps
    available = _host_memory()
    if most > available:
        warnings.warn(
            f"if all {episodes} episodes last until their time limit, their {episodes * kept:,} "
            f"rows need {_human(most)} of memory, and {_human(available)} are there: nothing could "
            "be written then. Fewer --episodes, or a larger --stride, need less",
            RunWarning,
            stacklevel=2,
        )


def check_host_memory(needed: int, what: str, less: str) -> None:
    """Refuse to gather on the host what its memory cannot hold; `less` says what needs less."""
    _refuse_beyond(_host_memory(), needed, what, less)


def tree_bytes(tree: PyTree) -> int:
    """The size of all leaves, or of their shapes, in bytes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _observation_bytes(env: Environment) -> int:
    """The bytes of one observation."""
    return tree_bytes(jax.eval_shape(lambda: zeros_of(env.observation_space)))


def _check_memory(needed: int, what: str) -> None:
    less = "Fewer environments, steps, seeds or episodes need less."
    _refuse_beyond(memory(), needed, what, less)


def _refuse_beyond(available: int, needed: int, what: str, less: str) -> None:
    if needed > available:
        raise JaxrlError(
            f"{what} need at least {_human(needed)} of memory, and {_human(available)} are there. "
            f"{less}"
        )


def memory() -> int:
    """The memory of this process's devices that is not in use yet, in bytes."""
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        return _host_memory()
    found = 0
    for device in devices:
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        if limit is None:  # a device that does not tell
            return 2**63
        found += limit - stats.get("bytes_in_use", 0)
    return found


def _host_memory() -> int:
    """What the machine, and the container that this runs in, has left for new processes."""
    limits = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        swap = next(line for line in lines if line.startswith("SwapFree:"))
        limits.append(sum(int(each.split()[1]) * 1024 for each in (line, swap)))
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        limits.append(limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    if not limits:  # no Linux: all that there is
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return max(0, min(limits))


def _human(size: int) -> str:
    """Bytes in words: 1.5 GB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"


def check_program(name: str, compiled: Any) -> None:
    """Refuse to run a compiled program whose results and temporaries no memory could hold."""
    analysis = compiled.memory_analysis()
    if analysis is None:
        return
    reused = analysis.alias_size_in_bytes
    needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes - reused
    _check_memory(needed, f"the program {name} and its results")


@contextlib.contextmanager
def exhaustion_in_words(name: str) -> Iterator[None]:
    """A device that runs out of memory while `name` runs, as an error that says what to do."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        text = str(error)
        if isinstance(error, jax.errors.JaxRuntimeError) and not any(
            part in text for part in EXHAUSTED
        ):
            raise
        first, _, _ = text.partition("\n")
        raise JaxrlError(
            f"the memory of the device is exhausted ({name}: {first}). "
            "Fewer environments, steps, seeds or episodes need less."
        ) from error

"""One step of MJX against one step of C MuJoCo, task by task:
how far apart two back ends of one task are.

    python experiments/mjx_errors.py  # all eleven: ten minutes, mostly compiling
    python experiments/mjx_errors.py --tasks Hopper-v5
    python experiments/mjx_errors.py --quick  # one task and 32 states: a minute

Both begin from the same states, met by random actions, and take the same action. Errors are
differences of the largest coordinate, in units of that coordinate's largest size over all states.
Most states differ by what float32 is good for; where a contact is found by one and not by the
other, whole units.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from harness import (
    Cell,
    Cells,
    Study,
    StudyArguments,
    check_choices,
    run_study,
    sections,
    table,
)

from jaxrl.envs.registry import make
from jaxrl.envs.suites.mujoco import IDS
from jaxrl.types import PyTree

ROWS, STRIDE = 16, 12  # simulations, and steps between two states that are compared


QUICK_TASKS, QUICK_STATES = ("Hopper-v5",), 32
CPU_HOURS_PER_TASK = 0.03


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """One-step errors of MJX."""

    tasks: tuple[str, ...] = IDS
    """Tasks to compare; the table shows every task that has been compared."""
    states: int = 128
    """States of each, in batches of 16: MJX can hang on a CPU with large ones."""


def study(arguments: Arguments) -> Study:
    """What is to be compared and written."""
    check_choices("task", arguments.tasks, IDS)
    name, tasks, states = "mjx_errors", arguments.tasks, arguments.states
    if arguments.quick:
        name, tasks, states = "mjx_errors_quick", QUICK_TASKS, QUICK_STATES
    cells = {}
    for task in tasks:
        asked = {"environment": task, "states": states, "rows": ROWS, "stride": STRIDE}
        cells[task] = Cell(asked, partial(compare, task, states), CPU_HOURS_PER_TASK)
    return Study(name, cells, text)


def text(cells: Cells) -> str:
    """The errors of every task in Markdown."""
    lines = []
    for task in IDS:
        if task in cells:
            errors = ("median", "quantile_95", "largest", "reward")
            lines.append([task, *(f"{cells[task][name]:.1e}" for name in errors)])
    header = ["task", "median error", "95 % of states below", "largest", "reward, median"]
    states = {str(cell["states"]) for cell in cells.values()}
    devices = {cell["versions"]["device"] for cell in cells.values()}
    note = f"{', '.join(sorted(states))} states per task; {', '.join(sorted(devices))}."
    return sections(table(header, lines), note)


def compare(task: str, states: int) -> dict:
    """Errors of one task."""
    exact, inexact = make(task), make(task, backend="mjx")
    keys = jax.random.split(jax.random.key(0), ROWS)
    state, _ = jax.jit(jax.vmap(exact.reset))(keys)
    steps = [jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0))) for env in (exact, inexact)]
    begun, seconds, found = 0, 0.0, []
    while len(found) * ROWS < states:
        for _ in range(STRIDE):
            begun += 1
            action = actions(exact, begun)
            state, _ = steps[0](keys[0], state, action)
        before = np.asarray(state).reshape(ROWS, -1).view(np.float64).astype(np.float32)
        clock = time.perf_counter()
        other = jax.block_until_ready(steps[1](keys[0], before, action)[1])
        seconds = seconds or time.perf_counter() - clock
        found.append(jax.device_get((steps[0](keys[0], state, action)[1], other)))
    mine, theirs = (stacked([pair[side] for pair in found]) for side in (0, 1))
    scale = np.abs(mine.observation).max(axis=0) + 1e-6
    error = np.max(np.abs(mine.observation - theirs.observation) / scale, axis=1)
    return {
        "task": task,
        "states": len(error),
        "median": float(np.median(error)),
        "quantile_95": float(np.quantile(error, 0.95)),
        "largest": float(error.max()),
        "reward": float(np.median(np.abs(mine.reward - theirs.reward))),
        "compile_seconds": seconds,
    }


def actions(env: PyTree, step: int) -> jax.Array:
    """Random actions of one step, [ROWS, ...]."""
    return jax.vmap(env.action_space.sample)(jax.random.split(jax.random.key(step), ROWS))


def stacked(seen: list[PyTree]) -> PyTree:
    """Batches one after the other."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *seen)


if __name__ == "__main__":
    run_study(study, Arguments)

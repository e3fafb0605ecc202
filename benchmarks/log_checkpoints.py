"""What a log of a gigabyte in the training state costs: the time that saving takes, memory,
and bytes on the disk.

    python -m benchmarks.log_checkpoints                 ten minutes
    python -m benchmarks.log_checkpoints --seconds 90    a short run, in which saving weighs more
    python -m benchmarks.log_checkpoints --learner td3   the replay buffer of TD3, a million rows

The algorithm `logger` learns nothing of use: each iteration appends random rows to its log, which
no compression makes smaller, and takes gradient steps on rows drawn from it. TD3 fills its replay
buffer once, in 64 environments of HalfCheetah-v5, with one gradient step per 64 transitions. Both
run through the project's own runner with its twenty evaluations and checkpoints. Memory is read
from /proc: Linux alone.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from benchmarks.report import device_name, machine, steps, write
from experiments.harness import markdown, start
from jaxrl.config import flatten, number, override, size
from jaxrl.envs.api import Environment
from jaxrl.train import loop
from jaxrl.train.best import Best
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, default_config, versions
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import CHECKPOINTS, ROWS
from jaxrl.train.output.console import Console
from jaxrl.types import (
    Agent,
    Algorithm,
    Array,
    Budget,
    Key,
    Log,
    Mean,
    Metrics,
    PyTree,
    feed_forward,
)

ALGORITHM, ENVIRONMENT = "benchmarks.log_checkpoints:logger", "probe/two-lengths"
TD3_ENVIRONMENT = "HalfCheetah-v5"
TD3_SETTINGS = {
    "num_envs": 64,
    "num_steps": 64,
    "updates_per_transition": 1 / 64,
    "replay_capacity": 1_000_000,
    "total_steps": 1_000_000,
    "warm_up": 10_000,
}
GOALS = {
    "saving_share": 0.03,
    "peak_memory_per_state": 1.1,
    "folder_per_row_bytes": 1.2,
    "written_per_row_bytes": 1.2,
}


@struct.dataclass
class LoggerConfig:
    """A log of `capacity` × `width` numbers, and what an iteration does to it."""

    learning_rate: float = number(1e-2, 0.0)
    total_steps: int = size(3_000_000)
    capacity: int = size(2_500_000)
    width: int = size(100)
    rows_per_step: int = size(1500)
    batch_size: int = size(256)
    updates: int = size(10)


class LoggerState(NamedTuple):
    """The log, the weights that are trained on it, and the key."""

    log: Log
    weights: Array  # [width, width]
    key: Key


def logger(env: Environment, config: LoggerConfig) -> Algorithm:
    """Rows of noise into a log, and weights that learn to reproduce them."""
    agent = logger_agent(env, config)

    def init(key: Key) -> LoggerState:
        key, of_weights = jax.random.split(key)
        return LoggerState(
            Log.empty(config.capacity, jnp.zeros(config.width)), agent.init(of_weights), key
        )

    def loss_of(weights: Array, batch: Array) -> Array:
        return jnp.mean((jnp.tanh(batch @ weights) - batch) ** 2)

    def step(state: LoggerState) -> tuple[LoggerState, Metrics]:
        key, of_rows, of_batches = jax.random.split(state.key, 3)
        log = state.log.append(jax.random.normal(of_rows, (config.rows_per_step, config.width)))

        def update(weights: Array, key: Key) -> tuple[Array, Array]:
            batch = log.rows[jax.random.randint(key, (config.batch_size,), 0, log.count)]
            loss, gradient = jax.value_and_grad(loss_of)(weights, batch)
            return weights - config.learning_rate * gradient, loss

        weights, losses = jax.lax.scan(
            update, state.weights, jax.random.split(of_batches, config.updates)
        )
        return LoggerState(log, weights, key), {"loss": Mean.of(losses)}

    return Algorithm(
        init=init,
        step=step,
        policy=lambda state: state.weights,
        agent=agent,
        budget=Budget(
            "transitions", config.rows_per_step, config.total_steps // config.rows_per_step
        ),
    )


def logger_agent(env: Environment, config: LoggerConfig) -> Agent:
    """Acts by the sign of all weights together: it is the log that this is about."""
    space = env.action_space

    def init(key: Key) -> Array:
        return 0.1 * jax.random.normal(key, (config.width, config.width))

    def act(weights: Array, observation: Array, key: Key) -> Array:
        del observation, key
        return jnp.full(space.shape, jnp.sum(weights) > 0, space.dtype)

    return Agent(init=init, modes={"deterministic": feed_forward(act)})


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How long, how large, and where."""

    learner: Literal["logger", "td3"] = "logger"
    """What writes the log: an algorithm of its own, or TD3, whose size and length are fixed."""
    seconds: float = 600.0
    """Length of the run, as nearly as can be told beforehand."""
    capacity: int = 2_500_000
    """Rows that the log holds, 400 bytes each."""
    turns: float = 1.2
    """Rows that are written, as a part of the capacity."""
    evaluations: int = 20
    """Evaluations, each with a checkpoint."""
    place: Path | None = None
    """Where the run folder is made, and removed at the end;
    the system's folder for temporary files unless given."""


def main(arguments: Arguments) -> None:
    """Warm up, run, and write down what it took."""
    place = Path(tempfile.mkdtemp(prefix="log-checkpoints-", dir=arguments.place))
    try:
        with steps(3) as begin:
            begin("a tiny run, for what is imported and compiled once")
            tiny = _experiment(arguments, capacity=10_000, total_steps=1500 * 20)
            loop.train(tiny, place / "tiny")
            experiment = td3(arguments)
            if arguments.learner == "logger":
                begin("the time of a gradient step")
                experiment = _experiment(arguments, updates=_updates(arguments))
            begin("the run")
            record = measure(experiment, place / "run")
    finally:
        shutil.rmtree(place)
    goals, short = GOALS, arguments.seconds < 600
    name = "log_checkpoints_short" if short else "log_checkpoints"
    if arguments.learner == "td3":
        # Its state is so small that the peak is that of compiling.
        goals = GOALS | {"peak_memory_per_state": None}
        name, short = "log_checkpoints_td3", False
    record = {"seconds_asked": arguments.seconds, "short": short, **record}
    record |= {"goals": goals, "machine": machine()}
    record |= {"versions": versions(experiment.environment)}
    device = jax.devices()[0]
    record["device"] = device_name(device.platform, device.device_kind)
    Console().note(write(name, record, text(record)))


def td3(arguments: Arguments) -> Experiment:
    """TD3, which fills its replay buffer once, on one device."""
    config = override(default_config("td3", TD3_ENVIRONMENT)[0], TD3_SETTINGS)
    run = RunSettings(num_evaluations=arguments.evaluations, evaluation_episodes=4, devices=1)
    return Experiment("td3", TD3_ENVIRONMENT, config, run)


def _experiment(arguments: Arguments, **settings: Any) -> Experiment:
    """The run, on one device."""
    config = default_config(ALGORITHM, ENVIRONMENT)[0]
    rows = int(arguments.turns * arguments.capacity) // config.rows_per_step * config.rows_per_step
    config = override(config, {"capacity": arguments.capacity, "total_steps": rows} | settings)
    run = RunSettings(num_evaluations=arguments.evaluations, evaluation_episodes=4, devices=1)
    return Experiment(ALGORITHM, ENVIRONMENT, config, run)


def _updates(arguments: Arguments) -> int:
    """How many gradient steps an iteration make a run that lasts as long as asked for."""
    seconds = []
    for updates in (10, 110):
        program = build(_experiment(arguments, updates=updates))
        state, _ = program.chunk(program.init(), 20)
        begun = time.perf_counter()
        jax.block_until_ready(program.chunk(state, 50))
        seconds.append((time.perf_counter() - begun) / 50)
    wanted = arguments.seconds / program.algorithm.budget.steps
    each = max((seconds[1] - seconds[0]) / 100, 1e-9)
    return max(1, round((wanted - seconds[0]) / each) + 10)


def measure(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Run it, and say what saving took of time, memory and disk."""
    program = build(experiment)
    state = program.abstract_state()
    state_bytes, row_bytes = _bytes(state), _row_bytes(state)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
    before, written, begun = process_status("VmRSS"), _written(), time.perf_counter()
    with timed(loop.Runner, "save") as saving, timed(Best, "offer") as keeping_best:
        result = loop.train(experiment, folder)
    seconds, peak = time.perf_counter() - begun, process_status("VmHWM")
    written = _written() - written
    begun = time.perf_counter()
    jax.block_until_ready(Checkpoints(folder).restore_latest(program.abstract_state()).state)
    restoring = time.perf_counter() - begun
    rows = result.num_iterations * program.algorithm.budget.per_step
    disk, disk_rows = _disk_usage(folder), _disk_usage(folder / CHECKPOINTS / ROWS)
    return {
        "seconds": seconds,
        "saves": len(saving),
        "saving_seconds": sum(saving),
        "longest_save_seconds": max(saving),
        "best_seconds": sum(keeping_best),
        "saving_share": (sum(saving) + sum(keeping_best)) / seconds,
        "restoring_seconds": restoring,
        "state_bytes": state_bytes,
        "memory_before_bytes": before,
        "peak_memory_bytes": peak,
        "peak_memory_per_state": (peak - before) / state_bytes,
        "rows": rows,
        "row_bytes": row_bytes * rows,
        "folder_bytes": disk,
        "folder_per_row_bytes": disk / (row_bytes * rows),
        "rows_folder_bytes": disk_rows,
        "written_bytes": written,
        "written_per_row_bytes": written / (row_bytes * rows),
        "algorithm": experiment.algorithm,
        "environment": experiment.environment,
        "config": flatten(experiment.config),
        "iterations": result.num_iterations,
    }


def _bytes(tree: PyTree) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _row_bytes(state: PyTree) -> float:
    """Bytes per row of the logs of a state, of which there must be some."""

    def is_log(node: Any) -> bool:
        return isinstance(node, Log)

    logs = [leaf.rows for leaf in jax.tree.leaves(state, is_leaf=is_log) if is_log(leaf)]
    return sum(_bytes(rows) / len(jax.tree.leaves(rows)[0]) for rows in logs)


@contextmanager
def timed(owner: type, name: str) -> Iterator[list[float]]:
    """The seconds of each call of a method."""
    seconds: list[float] = []
    method: Callable = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        begun = time.perf_counter()
        try:
            return method(*arguments)
        finally:
            seconds.append(time.perf_counter() - begun)

    setattr(owner, name, call)
    try:
        yield seconds
    finally:
        setattr(owner, name, method)


def process_status(field: str) -> int:
    """Bytes that /proc/self/status tells of this process."""
    found = re.search(
        rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE
    )
    return 1024 * int(found[1]) if found else 0


def _written() -> int:
    """Bytes that this process has had written to disks."""
    found = re.search(r"^write_bytes: (\d+)$", Path("/proc/self/io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def _disk_usage(folder: Path) -> int:
    """Bytes that a folder takes on the disk, as `du` counts them."""
    return sum(512 * path.lstat().st_blocks for path in folder.rglob("*"))


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    rows = [
        {
            "what": "saving, of the time of the run",
            "measured": f"{record['saving_share']:.2%}",
            "goal": "3 %",
        },
        {
            "what": "peak memory beyond that before, per byte of the state",
            "measured": f"{record['peak_memory_per_state']:.3f}",
            "goal": record["goals"]["peak_memory_per_state"],
        },
        {
            "what": "the run folder at the end, per byte of the rows written to the log",
            "measured": f"{record['folder_per_row_bytes']:.3f}",
            "goal": GOALS["folder_per_row_bytes"],
        },
        {
            "what": "bytes written to disk, per byte of the rows written to the log",
            "measured": f"{record['written_per_row_bytes']:.3f}",
            "goal": GOALS["written_per_row_bytes"],
        },
    ]
    if "rows_folder_bytes" in record:
        share = (record["written_bytes"] - record["rows_folder_bytes"]) / record["row_bytes"]
        rows.append(
            {
                "what": "of these, networks and all else that each checkpoint holds anew",
                "measured": f"{share:.3f}",
                "goal": None,
            }
        )
    short = (
        " The goals are those of a run of ten minutes, and this is a short one."
        if record["short"]
        else ""
    )
    saves = (
        f"{record['saves']} checkpoints, the longest of which took "
        f"{record['longest_save_seconds']:.2f} s"
    )
    return (
        f"A state of {record['state_bytes'] / 1e9:.2f} GB, nearly all of it a log, on "
        f"{record['device']}: {record['rows']:,} rows in {record['seconds']:.0f} s with {saves}; "
        f"read back in {record['restoring_seconds']:.1f} s.{short}\n\n"
        f"{markdown(rows)}"
    )


if __name__ == "__main__":
    start(main, Arguments)

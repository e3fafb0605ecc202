"""A run of seconds, and what the tests of the runner and of the command line share."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jaxrl.train.population as population_module
from jaxrl.config import override
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.logs import load_evaluations, read_metrics
from jaxrl.train.player import Player
from jaxrl.train.population import Population
from jaxrl.train.program import Program

ITERATIONS = 24
SIZES = {
    "total_steps": ITERATIONS * 32,
    "num_envs": 4,
    "num_steps": 8,
    "minibatch_size": 16,
    "num_epochs": 1,
    "hidden_sizes": (4,),
}
EVALUATIONS, EPISODES = 5, 4
POINTS = [0, 4, 9, 14, 19, 24]  # 24 k / 5, rounded down
PROBE = "probe/two-lengths"
# The same run for the command line.
ARGUMENTS = [
    *(
        "--env",
        PROBE,
        "--total-steps",
        str(SIZES["total_steps"]),
        "--num-envs",
        "4",
        "--num-steps",
        "8",
    ),
    *("--minibatch-size", "16", "--num-epochs", "1", "--hidden-sizes", "4"),
    *("--num-evaluations", str(EVALUATIONS), "--evaluation-episodes", str(EPISODES)),
]


def experiment(
    environment: str = PROBE,
    sweep: dict | None = None,
    *,
    seed: int = 0,
    num_seeds: int = 1,
    devices: int | None = None,
    **settings: Any,
) -> Experiment:
    config, _ = default_config("ppo", environment, use_tuned=False)
    run = RunSettings(
        seed=seed,
        num_seeds=num_seeds,
        devices=devices,
        num_evaluations=EVALUATIONS,
        evaluation_episodes=EPISODES,
    )
    return Experiment("ppo", environment, override(config, SIZES | settings), run, sweep or {})


_compilations: dict[Any, dict[str, Callable]] = {}


@contextlib.contextmanager
def shared_compilations() -> Iterator[None]:
    """Programs of equal shapes compile once in a test session, as they may:
    numbers are their arguments."""
    begin_program, begin_player = Program.__init__, Player.__init__

    def share(population: Population, *parts: Any) -> None:
        arguments = (population.env, population.config, population.inputs)
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(arguments))
        key = (
            jax.tree.structure(arguments),
            shapes,
            population.shape,
            str(population.layout),
            population_module.CACHED,
            *parts,
        )
        population.compiled = _compilations.setdefault(key, population.compiled)

    def program(self: Program, factory: Any, *arguments: Any, **options: Any) -> None:
        begin_program(self, factory, *arguments, **options)
        share(self.population, factory, self.player.num_episodes)

    def player(self: Player, population: Population, make_agent: Any, *arguments: Any) -> None:
        begin_player(self, population, make_agent, *arguments)
        share(population, make_agent, self.num_episodes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Program, "__init__", program)
        patch.setattr(Player, "__init__", player)
        # JAX takes the transposition of keys in a vmapped scan for their consumption.
        with jax.debug_key_reuse(False):
            yield


def arrays(tree: Any) -> list[np.ndarray]:
    """The leaves of a tree on the host, keys as their data."""

    def array(leaf: Any) -> np.ndarray:
        is_key = isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
            leaf.dtype, jax.dtypes.prng_key
        )
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [array(leaf) for leaf in jax.tree.leaves(tree)]


def same_bits(one: Any, other: Any) -> bool:
    """Whether two trees hold the same bits."""
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs
    )


def newest_state(folder: Path, described: Experiment | None = None) -> tuple[int, Any]:
    """(iteration, state) of the newest checkpoint."""
    program = build(described or experiment())
    restored = Checkpoints(folder).restore_latest(program.abstract_state())
    assert not restored.problems
    return restored.iteration, restored.state


def records(folder: Path) -> tuple[str, dict[str, bytes]]:
    """What a run logged: its rows without the clock, as text (NaN is NaN),
    and its evaluations as bytes."""
    rows = [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in read_metrics(folder)
    ]
    evaluations = {}
    for name, values in load_evaluations(folder).items():
        buffer = io.BytesIO()
        np.save(buffer, values)
        evaluations[name] = buffer.getvalue()
    return json.dumps(rows), evaluations

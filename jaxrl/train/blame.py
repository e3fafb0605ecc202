"""Whose fault NaN or infinity is, found out once a run has failed of it.

The last good policy is played for a while: where an observation or a reward is not finite under
numbers that all are, it is the environment that made it, and no learning rate would help. Nothing
is counted while training, which costs nothing until then.
"""

from __future__ import annotations

import contextlib
import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import field_names
from jaxrl.envs.play import Play, play_and_keep, play_begin
from jaxrl.errors import JaxrlError
from jaxrl.train.devices import distributed
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.program import Program
from jaxrl.types import PyTree, Timestep

EPISODES, MOST_STEPS = 64, 1000


def advice(program: Program, checkpoints: Checkpoints, environment: str) -> str:
    """What to do about a run that is not finite any more: a sentence or two."""
    if not distributed.are_several():
        found = None
        # A damaged checkpoint, or no memory left, must not hide the run's own error.
        with contextlib.suppress(JaxrlError, OSError, MemoryError, jax.errors.JaxRuntimeError):
            found = fault_of_environment(program, checkpoints)
        if found is not None:
            return (
                f"It is the environment's doing: under the last good policy {environment} returns "
                f"{found}, which is NaN or infinite. Mend it there, or its options."
            )
    settings = ("learning_rate", "critic_learning_rate", "max_grad_norm")
    known = field_names(program.config)
    options = [f"--{name.replace('_', '-')}" for name in settings if name in known]
    return f"A lower {' or '.join(options)} usually helps." if options else ""


def fault_of_environment(program: Program, checkpoints: Checkpoints) -> str | None:
    """Which field is not finite under the last good policy, and when; None if all are."""
    restored = checkpoints.restore_latest(program.abstract_state())
    policies = program.whole(program.policies(program.place(restored.state)))
    population = program.population
    policy = policies
    if population.is_population:  # the first of them stands for all
        policy = jax.tree.map(lambda leaf: leaf[0, 0], policies)
    agent = program.player.agent()
    mode = agent.modes.get("stochastic") or next(iter(agent.modes.values()))
    env = population.env
    steps = min(env.horizon, MOST_STEPS)

    @jax.jit
    def watch(policy: PyTree, key: jax.Array) -> tuple[PyTree, PyTree]:
        begun = play_begin(env, agent, policy, key, EPISODES)
        first = {"observation": _broken(begun.view.observation, begun.running)}
        _, later = play_and_keep(env, begun, partial(mode.act, policy), steps, _keep)
        return first, later

    first, later = jax.device_get(watch(policy, jax.random.key(0)))
    if fields := _named(first):
        return f"{fields} on a reset"
    for step in range(steps):
        if fields := _named(jax.tree.map(operator.itemgetter(step), later)):
            return f"{fields} in step {step + 1} of an episode"
    return None


def _keep(before: Play, after: Play, timestep: Timestep) -> dict[str, PyTree]:
    """Which numbers of a step are not finite, in any of the episodes that it belongs to."""
    del after
    seen = {"observation": timestep.observation, "reward": timestep.reward}
    return {name: _broken(value, before.running) for name, value in seen.items()}


def _broken(tree: PyTree, running: jax.Array) -> PyTree:
    """Whether a number is NaN or infinite in any running episode: bool [...] of leaves [E, ...]."""

    def leaf(values: Any) -> jax.Array:
        if not jnp.issubdtype(values.dtype, jnp.inexact):
            return jnp.zeros(values.shape[1:], bool)
        where = running.reshape(-1, *(1,) * (values.ndim - 1))
        return jnp.any(~jnp.isfinite(values) & where, axis=0)

    return jax.tree.map(leaf, tree)


def _named(broken: dict[str, PyTree]) -> str:
    """The names of what is marked: "observation[1], observation[3] and reward"."""
    names = []
    for path, marked in jax.tree_util.tree_flatten_with_path(broken)[0]:
        key, *inner = path
        for index in np.argwhere(marked):
            place = ", ".join(map(str, index))
            names.append(
                key.key + jax.tree_util.keystr(tuple(inner)) + (f"[{place}]" if place else "")
            )
    if len(names) > 4:
        names = [*names[:3], f"{len(names) - 3} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))

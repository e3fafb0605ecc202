"""Whose fault NaN or infinity is, found out once a run has failed of it.

The last good policy is played for a while: where an observation or a reward is not finite under
numbers that all are, or a mask allows no action, it is the environment that made it, and no
learning rate would help. Nothing is counted while training, which costs nothing until then.
"""

from __future__ import annotations

import contextlib
import operator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import field_names
from jaxrl.core.distributions import allows_an_action
from jaxrl.envs.play import Play, play_and_keep, play_begin
from jaxrl.errors import JaxrlError
from jaxrl.nn.actor_critic import mask_of
from jaxrl.train.devices import distributed
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.program import Program
from jaxrl.types import PyTree, Space, Timestep

EPISODES, MOST_STEPS = 64, 1000


class Watched(NamedTuple):
    """What is wrong with one step of some episodes."""

    broken: dict[str, PyTree]  # bool [...]: which numbers are not finite in any of them
    forbidden: jax.Array  # bool []: whether one that goes on is allowed nothing


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
                f"{found}. Mend it there, or its options."
            )
    settings = ("learning_rate", "critic_learning_rate", "max_grad_norm")
    known = field_names(program.config)
    options = [f"--{name.replace('_', '-')}" for name in settings if name in known]
    return f"A lower {' or '.join(options)} usually helps." if options else ""


def fault_of_environment(program: Program, checkpoints: Checkpoints) -> str | None:
    """What is wrong with what it returns under the last good policy, and when; None if nothing."""
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
    def watch(policy: PyTree, key: jax.Array) -> tuple[Watched, Watched]:
        begun = play_begin(env, agent, policy, key, EPISODES)
        observation = begun.view.observation
        first = Watched(
            {"observation": _broken(observation, begun.running)},
            _forbidden(observation, begun.running, env.action_space),
        )
        keep = partial(_keep, env.action_space)
        _, later = play_and_keep(env, begun, partial(mode.act, policy), steps, keep)
        return first, later

    first, later = jax.device_get(watch(policy, jax.random.key(0)))
    if fault := _fault(first, "on a reset"):
        return fault
    for step in range(steps):
        now = jax.tree.map(operator.itemgetter(step), later)
        if fault := _fault(now, f"in step {step + 1} of an episode"):
            return fault
    return None


def _fault(seen: Watched, when: str) -> str | None:
    """What is wrong with a step, in words."""
    if seen.forbidden:
        return f"a mask that allows no action {when}"
    fields = _named(seen.broken)
    return f"{fields} {when}, which is NaN or infinite" if fields else None


def _keep(action_space: Space, before: Play, after: Play, timestep: Timestep) -> Watched:
    """What is wrong with a step, in the episodes that it belongs to."""
    seen = {"observation": timestep.observation, "reward": timestep.reward}
    broken = {name: _broken(value, before.running) for name, value in seen.items()}
    return Watched(broken, _forbidden(timestep.observation, after.running, action_space))


def _forbidden(observation: PyTree, running: jax.Array, action_space: Space) -> jax.Array:
    """Whether a mask allows no action in any running episode: bool []."""
    mask = mask_of(observation)
    if mask is None:
        return jnp.zeros((), bool)
    allowed = allows_an_action(mask, getattr(action_space, "nvec", None))
    return jnp.any(~allowed & running)


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

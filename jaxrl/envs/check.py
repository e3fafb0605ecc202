"""Checking a user's environment against the contract, by tracing it: nothing is compiled or run."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError, check_positive_int
from jaxrl.types import (
    ACTION_MASK,
    Box,
    Dict,
    Discrete,
    ObservationSpace,
    PyTree,
    Timestep,
)


def check_environment(name: str, env: Environment) -> None:
    """Refuse an environment whose reset or step breaks the contract or leaves its spaces."""
    key = jax.random.key(0)

    def trace(env: Environment, key: jax.Array) -> tuple:
        # A new function for each call: JAX caches what it traced by the function and the structure
        # of its arguments, and takes two classes with equal fields for the same structure.
        return _trace(env, key)

    try:
        state, observation, successor, timestep = jax.eval_shape(trace, env, key)
    except JaxrlError as error:
        raise JaxrlError(f"{name}: {error}") from None
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise JaxrlError(f"{name}: reset or step fails when it is traced: {reason}") from error
    _check_observation(name, "reset returns an observation", observation, env.observation_space)
    _check_observation(
        name, "step returns an observation", timestep.observation, env.observation_space
    )
    _check_mask(name, env)
    _check_array(name, "step returns a reward", timestep.reward, (), jnp.float32)
    _check_array(name, "step returns terminated", timestep.terminated, (), jnp.bool_)
    if sorted(timestep.info) != sorted(env.info):
        raise JaxrlError(
            f"{name}: step reports {sorted(timestep.info)}, but `info` names {sorted(env.info)}."
        )
    for reported, value in timestep.info.items():
        _check_array(name, f"step reports {reported}", value, (), jnp.float32)
    for old, new in itertools.zip_longest(_layout(state), _layout(successor)):
        if old != new:
            raise JaxrlError(f"{name}: the state changes from reset to step: {old} becomes {new}.")


def _trace(env: Environment, key: jax.Array) -> tuple[PyTree, PyTree, PyTree, Timestep]:
    """(state, observation) of a reset, (state, timestep) of the step after it."""
    observed = env.observation_space
    boxes = observed.spaces.values() if isinstance(observed, Dict) else (observed,)
    observed_sizes = (size for box in boxes for size in box.shape)
    sizes: list[object] = [env.horizon, *observed_sizes, *env.action_space.shape]
    for size in sizes:
        if isinstance(size, jax.core.Tracer):
            raise JaxrlError(
                "horizon or a space depends on a field that is traced. Declare sizes static: "
                "`size: int = struct.field(pytree_node=False, default=8)`."
            )
    check_positive_int("horizon", env.horizon)
    keys = jax.random.split(key, 3)
    state, observation = env.reset(keys[0])
    successor, timestep = env.step(keys[1], state, env.action_space.sample(keys[2]))
    if not isinstance(timestep, Timestep):
        raise JaxrlError(f"step returns {type(timestep).__name__} where a Timestep belongs.")
    return state, observation, successor, timestep


def _check_observation(name: str, what: str, seen: PyTree, space: ObservationSpace) -> None:
    """Refuse an observation outside of its space."""
    if not isinstance(space, Dict):
        _check_array(name, what, seen, space.shape, space.dtype)
        return
    found = sorted(seen) if isinstance(seen, dict) else type(seen).__name__
    if found != sorted(space.spaces):
        raise JaxrlError(f"{name}: {what} of {found}, but its keys are {sorted(space.spaces)}.")
    for key, box in space.entries:
        _check_array(name, f"{what}, whose {key} is", seen[key], box.shape, box.dtype)


def _check_mask(name: str, env: Environment) -> None:
    """Refuse a mask of actions that is not one truth value per action."""
    observed, acted = env.observation_space, env.action_space
    if not isinstance(observed, Dict) or ACTION_MASK not in observed.spaces:
        return
    if isinstance(acted, Box):
        raise JaxrlError(f"{name}: {ACTION_MASK} is for discrete actions, and these are {acted}.")
    mask = observed.spaces[ACTION_MASK]
    count = acted.n if isinstance(acted, Discrete) else sum(acted.nvec)
    if mask.shape != (count,) or np.dtype(mask.dtype) != bool:
        raise JaxrlError(
            f"{name}: {ACTION_MASK} is {mask}, but must be one truth value for each of the "
            f"{count} actions, Box({count}) bool."
        )


def _check_array(
    name: str, what: str, seen: PyTree, shape: tuple[int, ...], dtype: DTypeLike
) -> None:
    """Refuse what is no array of this shape and type; `what` says where it was seen."""
    promised = f"{jnp.dtype(dtype).name}{list(shape)}"
    found = type(seen).__name__
    if hasattr(seen, "dtype"):
        found = f"{seen.dtype.name}{list(seen.shape)}"
    if found != promised:
        raise JaxrlError(f"{name}: {what} of type {found}, but it must be {promised}.")


def _layout(tree: PyTree) -> list[str]:
    """The path, type and shape of every leaf, as text."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [
        f"state{jax.tree_util.keystr(path)} {leaf.dtype.name}{list(leaf.shape)}"
        for path, leaf in leaves
    ]

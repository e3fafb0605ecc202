"""Checking a user's environment against the contract, by tracing it: nothing is compiled or run."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError, check_positive_int
from jaxrl.types import PyTree, Timestep


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
    space = env.observation_space
    _check_array(name, "reset returns an observation", observation, space.shape, space.dtype)
    _check_array(
        name, "step returns an observation", timestep.observation, space.shape, space.dtype
    )
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
    sizes: list[object] = [env.horizon, *env.observation_space.shape, *env.action_space.shape]
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

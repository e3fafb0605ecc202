"""Whole episodes as they were played, row by row: with the states that they went through.

A recording is one .npz file. Snapshot banks and datasets are rows of such a file.

    header            JSON: format, environment, options, identity, versions, and who played
    state.0, …        the leaves of the environment's states, before each step [R, ...]
    observation, action, reward, terminated, truncated, next_observation
    step, episode     where in which episode the row is, int32 [R]
    return_so_far     what the episode earned before the row, float32 [R]
    value             what the agent's critic expects from there on, float32 [R]; NaN without one

Actions are in the environment's units, next observations are those before any reset. With a stride
of k only every k-th step of an episode has a row.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.files import load_npz
from jaxrl.envs.api import Environment
from jaxrl.envs.identity import check_identity, identity
from jaxrl.errors import JaxrlError
from jaxrl.types import PyTree

FORMAT = 1
# What every row has, with its type and its axes beyond the row.
NUMBERS = {
    "reward": np.float32,
    "terminated": np.bool_,
    "truncated": np.bool_,
    "step": np.int32,
    "episode": np.int32,
    "return_so_far": np.float32,
    "value": np.float32,
}


@dataclass(frozen=True)
class Recording:
    """R rows of recorded episodes, as NumPy arrays; `header` says where they are from."""

    header: dict[str, Any]
    state: PyTree  # of the environment's structure, leaves [R, ...]
    observation: np.ndarray
    action: np.ndarray
    next_observation: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    step: np.ndarray
    episode: np.ndarray
    return_so_far: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.reward)

    @property
    def episode_returns(self) -> np.ndarray:
        """What each episode earned in all, float32 [episodes], in their order."""
        return np.asarray(self.header["episode_returns"], np.float32)

    def data(self) -> bytes:
        """The file that `read` reads."""
        leaves = [_as_data(leaf) for leaf in jax.tree.leaves(self.state)]
        arrays: dict[str, np.ndarray] = {
            f"state.{index}": leaf for index, leaf in enumerate(leaves)
        }
        arrays |= {name: getattr(self, name) for name in ("observation", "action")}
        arrays |= {"next_observation": self.next_observation}
        arrays |= {name: getattr(self, name) for name in NUMBERS}
        arrays |= {"header": np.frombuffer(json.dumps(self.header).encode(), np.uint8)}
        file = io.BytesIO()
        np.savez(file, **arrays)  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def read(cls, path: PathLike, env: Environment) -> Recording:
        """The recording in a file, if it is one of `env`."""
        header, arrays = load(path)
        check_identity(header["identity"], env, f"the recording of {header['environment']}")
        shape = jax.eval_shape(env.reset, jax.random.key(0))[0]
        leaves, treedef = jax.tree.flatten(shape)
        rows = len(arrays["reward"])
        spaces = {
            "observation": env.observation_space,
            "next_observation": env.observation_space,
            "action": env.action_space,
        }
        for name, space in spaces.items():
            _check(name, arrays[name], (rows, *space.shape), np.dtype(space.dtype))
        for name, dtype in NUMBERS.items():
            _check(name, arrays[name], (rows,), np.dtype(dtype))
        state = [
            _from_data(f"state.{index}", arrays[f"state.{index}"], leaf, rows)
            for index, leaf in enumerate(leaves)
        ]
        named = {name: arrays[name] for name in (*spaces, *NUMBERS)}
        return cls(header, jax.tree.unflatten(treedef, state), **named)


def header(env: Environment, environment_id: str, options: dict, **more: Any) -> dict[str, Any]:
    """What a recording says of where it was made; `more` must be JSON."""
    return {
        "format": FORMAT,
        "environment": environment_id,
        "environment_options": options,
        "identity": identity(env),
        **more,
    }


def load(path: PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays of a file, whatever they may be of."""
    kind = "it should be a recording, as jaxrl collect writes it, but"
    arrays = load_npz(path, kind)
    if "header" not in arrays:
        raise JaxrlError(f"{kind} it has no header.")
    try:
        found = json.loads(arrays.pop("header").tobytes())
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise JaxrlError(f"{kind} its format is not {FORMAT}.")
        missing = [name for name in ("observation", "action", *NUMBERS) if name not in arrays]
        missing += [] if "environment" in found else ["environment"]
        states = [f"state.{index}" for index in range(len(found["identity"]["state"]))]
        missing += [name for name in (*states, "next_observation") if name not in arrays]
        if missing:
            raise JaxrlError(f"{kind} it has no {', '.join(missing)}.")
        return found, arrays
    except JaxrlError:
        raise
    except Exception as error:  # a header may be any bytes
        raise JaxrlError(f"{kind} {error}.") from error


def _check(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise JaxrlError(
            f"{name} is {array.dtype}{list(array.shape)} in the recording, "
            f"but must be {dtype}{list(shape)}."
        )


def _as_data(leaf: Any) -> np.ndarray:
    """A leaf of states as numbers: keys as their data."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _from_data(name: str, array: np.ndarray, leaf: Any, rows: int) -> Any:
    """The leaf that `_as_data` made numbers of; `leaf` has the shape and the type of one row."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        _check(name, array, (rows, *leaf.shape), np.dtype(leaf.dtype))
        return array
    keys = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
    if keys.shape != (rows, *leaf.shape):
        raise JaxrlError(f"{name} has {list(keys.shape)} keys, but must have {rows} rows of them.")
    return keys

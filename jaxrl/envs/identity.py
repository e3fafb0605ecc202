"""What an environment is, as plain data: to refuse states and transitions of another one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import jax
import numpy as np

from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.types import PyTree

# Numbers that are said one by one where environments differ; of larger arrays, their hash alone.
MOST_NUMBERS = 16


def identity(env: Environment) -> dict[str, Any]:
    """An environment's class, its parameters and the structure of its states, as JSON has them.

    Two environments of one identity step from equal states to equal states, as far as their code
    and the libraries beneath it are the same. `env` is not batched.
    """
    state = jax.eval_shape(env.reset, jax.random.key(0))[0]
    return {
        "class": f"{type(env).__module__}.{type(env).__qualname__}",
        "parameters": {
            jax.tree_util.keystr(path, simple=True, separator="."): _described(leaf)
            for path, leaf in jax.tree.leaves_with_path(env)
        }
        | {
            field.name: str(getattr(env, field.name))
            for field in dataclasses.fields(env)  # what is no leaf is static
            if not field.metadata.get("pytree_node", True)
        },
        "horizon": env.horizon,
        "state": structure(state),
    }


def structure(tree: PyTree) -> list[str]:
    """Path, type and shape of each leaf of a tree of arrays, or of their shapes."""
    return [
        f"{jax.tree_util.keystr(path, simple=True, separator='.')}: {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def check_identity(expected: dict[str, Any], env: Environment, what: str) -> None:
    """Refuse an `env` that is not the one that `what`, a recording say, was made in."""
    found = json.loads(json.dumps(identity(env)))
    if found == expected:
        return
    differences = [
        f"{name}: {_of(expected, name)} there, {_of(found, name)} here"
        for name in ("class", "horizon", "state")
        if _of(expected, name) != _of(found, name)
    ]
    old, new = (dict(_of(each, "parameters") or {}) for each in (expected, found))
    differences += [
        f"{name}: {old.get(name, 'none')} there, {new.get(name, 'none')} here"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    raise JaxrlError(f"{what} is of another environment ({'; '.join(differences[:4])}).")


def _of(identified: Any, name: str) -> Any:
    return identified.get(name) if isinstance(identified, dict) else None


def _described(leaf: Any) -> Any:
    """A parameter as JSON has it: its numbers, or a hash of many."""
    array = np.asarray(leaf)
    if array.size <= MOST_NUMBERS:
        return array.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} {digest[:16]}"

"""What an environment is, as plain data: to refuse states and transitions of another one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.tree_util import GetAttrKey, KeyPath

from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.types import PyTree

# Of what is told, as it is now; the first identities had none.
FORM = 2
# Where an object lies, which Python writes of those that do not describe themselves.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Numbers that are said one by one where environments differ; of larger arrays, their hash alone.
MOST_NUMBERS = 16


def identity(env: Environment) -> dict[str, Any]:
    """An environment's class, its parameters and the structure of its states, as JSON has them.

    Two environments of one identity step from equal states to equal states, as far as their code
    and the libraries beneath it are the same. `env` is not batched. Environments within it, as in
    a wrapper, are told by their classes and parameters too, under dotted names.
    """
    fixed = {_dotted(path): _said(value) for path, value in _fixed(env)}
    return {"form": FORM, **_identity(env, fixed)}


def _identity(env: Environment, fixed: dict[str, Any]) -> dict[str, Any]:
    """The identity with what is `fixed` when the environment is made, beside its leaves."""
    state = jax.eval_shape(env.reset, jax.random.key(0))[0]
    leaves = {_dotted(path): _described(leaf) for path, leaf in jax.tree.leaves_with_path(env)}
    return {
        "class": _class(env),
        "parameters": leaves | fixed,
        "horizon": env.horizon,
        "state": structure(state),
    }


def _fixed(node: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """The static fields of a dataclass and of those within, and the classes of environments there.

    What is no leaf is static.
    """
    for field in dataclasses.fields(node):
        if field.metadata.get("static", not field.metadata.get("pytree_node", True)):
            yield (*path, GetAttrKey(field.name)), getattr(node, field.name)

    def is_within(each: Any) -> bool:
        return each is not node and dataclasses.is_dataclass(each)

    for inner_path, inner in jax.tree.leaves_with_path(node, is_leaf=is_within):
        if is_within(inner):
            if isinstance(inner, Environment):
                yield (*path, *inner_path, GetAttrKey("class")), _class(inner)
            yield from _fixed(inner, (*path, *inner_path))


def structure(tree: PyTree) -> list[str]:
    """Path, type and shape of each leaf of a tree of arrays, or of their shapes."""
    return [
        f"{_dotted(path)}: {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def check_identity(expected: dict[str, Any], env: Environment, what: str) -> None:
    """Refuse an `env` that is not the one that `what`, a recording say, was made in."""
    found = json.loads(json.dumps(identity(env)))
    if "form" not in expected:
        expected, found = _as_first(expected, env)
    if found == expected:
        return
    differences = [
        f"{name}: {_of(expected, name)} there, {_of(found, name)} here"
        for name in ("form", "class", "horizon", "state")
        if _of(expected, name) != _of(found, name)
    ]
    old, new = (dict(_of(each, "parameters") or {}) for each in (expected, found))
    differences += [
        f"{name}: {old.get(name, 'none')} there, {new.get(name, 'none')} here"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]
    raise JaxrlError(f"{what} is of another environment ({'; '.join(differences[:4])}).")


def _as_first(expected: dict[str, Any], env: Environment) -> tuple[dict[str, Any], dict[str, Any]]:
    """An identity from before there were forms, and that of `env` as it was told then.

    It knew the outermost class alone, and a MuJoCo model by the path of its file, which says
    nothing: both are without it.
    """
    fixed = {_dotted(path): str(value) for path, value in _fixed(env) if len(path) == 1}
    found = json.loads(json.dumps(_identity(env, fixed)))
    return _without_path(expected), _without_path(found)


def _without_path(identified: dict[str, Any]) -> dict[str, Any]:
    parameters = dict(identified.get("parameters") or {})
    if "physics" in parameters:
        parameters["physics"] = re.sub(r"path=('|\").*?\1, ", "", str(parameters["physics"]))
    return {**identified, "parameters": parameters}


def _of(identified: Any, name: str) -> Any:
    return identified.get(name) if isinstance(identified, dict) else None


def _described(leaf: Any) -> Any:
    """A parameter as JSON has it: its numbers, or a hash of many."""
    array = np.asarray(leaf)
    if array.size <= MOST_NUMBERS:
        return array.tolist()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return f"{array.dtype}{list(array.shape)} {digest[:16]}"


def _said(value: Any) -> Any:
    """A static value as JSON has it: what it says of itself, or how it is written."""
    if hasattr(value, "identity"):
        return value.identity()
    if isinstance(value, np.ndarray):
        return _described(value)
    return value if isinstance(value, str) else _ADDRESS.sub("", repr(value))


def _class(env: Environment) -> str:
    return f"{type(env).__module__}.{type(env).__qualname__}"


def _dotted(path: KeyPath) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")

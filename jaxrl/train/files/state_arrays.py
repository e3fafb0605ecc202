"""The leaves of a training state: to disk (Orbax), back, and onto the devices, bit for bit.

On the host every leaf is a NumPy array, and keys are their data. What describes a leaf (path,
dtype, shape and a key's kind) goes into the checkpoint's manifest, so that damage and a changed
configuration are told apart. The rows of a Log stay where they are: rows.py writes and reads them.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxrl.errors import JaxrlError
from jaxrl.train.devices import jax_settings
from jaxrl.train.files.blocks import dealt_anew
from jaxrl.types import Log, PyTree


def _described_leaves(tree: PyTree) -> tuple[list[dict[str, Any]], list[Any]]:
    """The path, dtype and shape of every leaf, and the leaves, in tree order.

    Python scalars become arrays. Of the n-th Log in the tree, "log": n marks the rows and "counts":
    n the counter.
    """
    rows = []
    leaves = []
    logs = 0
    for path, node in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_log)[0]:
        for inner, leaf in jax.tree_util.tree_flatten_with_path(node)[0]:
            if isinstance(leaf, np.ndarray) or not hasattr(leaf, "dtype"):
                leaf = jnp.asarray(leaf)
            name = jax.tree_util.keystr((*path, *inner), simple=True, separator=".")
            row: dict[str, Any] = {
                "path": name,
                "dtype": str(leaf.dtype),
                "shape": list(leaf.shape),
            }
            if _is_log(node):
                row["counts" if inner[0].name == "written" else "log"] = logs
            rows.append(row)
            leaves.append(leaf)
        logs += _is_log(node)
    return rows, leaves


def _is_log(node: Any) -> bool:
    """Whether a part of a tree is a Log."""
    return isinstance(node, Log)


def refuse_logs(policies: PyTree) -> None:
    """Refuse a policy that holds a Log: it is saved whole, and often."""
    for row in _described_leaves(policies)[0]:
        if "log" in row:
            raise JaxrlError(
                f"the policy holds a log ({row['path']}): a log belongs into the training state "
                "alone."
            )


def refuse_undeclared(state: PyTree, sharded: PyTree) -> None:
    """Refuse a state that `sharded` is no prefix of, or a Log in it that holds keys."""
    rows, leaves = _described_leaves(state)
    for row, leaf in zip(rows, leaves, strict=True):
        if "log" in row and _is_key(leaf):
            raise JaxrlError(
                f"{row['path']} holds keys: a log can keep their data (jax.random.key_data)."
            )
    try:
        jax.tree.broadcast(sharded, state)
    except ValueError as error:
        logs = [row["path"] for row in rows if "log" in row]
        held = f", of logs too ({', '.join(logs)})" if logs else ""
        raise JaxrlError(
            "the algorithm's `sharded` is no prefix of its state: it must say of each part, True "
            f"or False, whether it has a row per environment{held}."
        ) from error


def _is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys."""
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def host_leaves(state: PyTree) -> tuple[list[dict[str, Any]], list[Any]]:
    """Every leaf of `state` as a whole NumPy array, keys as their data, and what describes them.

    The rows of a Log are left on their devices, unless other processes hold a part of them.
    """
    rows, leaves = _described_leaves(state)
    for index, leaf in enumerate(leaves):
        if _is_key(leaf):
            if "log" in rows[index]:
                raise JaxrlError(
                    f"{rows[index]['path']} holds keys: a log can keep their data "
                    "(jax.random.key_data)."
                )
            rows[index]["key"] = str(jax.random.key_impl(leaf))
            leaves[index] = jax.random.key_data(leaf)
        if not leaf.is_fully_addressable:
            leaves[index] = multihost_utils.process_allgather(leaves[index], tiled=True)
    fetched = jax.device_get(
        [None if "log" in row else leaf for row, leaf in zip(rows, leaves, strict=True)]
    )
    values = zip(rows, leaves, fetched, strict=True)
    return rows, [leaf if "log" in row else np.asarray(value) for row, leaf, value in values]


def mismatch(rows: list[dict[str, Any]], abstract_tree: PyTree) -> str | None:
    """How leaves that were saved differ from those of a tree, in words; None if they fit."""
    for old, new in itertools.zip_longest(rows, _described_leaves(abstract_tree)[0]):
        differs = old is None or new is None
        if differs or any(old[part] != new[part] for part in ("path", "dtype", "shape")):
            return f"it holds {_leaf_text(old)}, where this configuration needs {_leaf_text(new)}"
    return None


def assemble(
    path: Path,
    manifest: dict[str, Any],
    values: list[np.ndarray],
    abstract_state: PyTree,
    part: str = "",
) -> PyTree:
    """The `values` of one part in the structure of `abstract_state`, each where its leaf lives."""
    needed, leaves = _described_leaves(abstract_state)
    chosen = [index for index, row in enumerate(manifest["leaves"]) if row.get("part", "") == part]
    rows = [manifest["leaves"][index] for index in chosen]
    values = [values[index] for index in chosen]
    rows, values = dealt_anew(rows, values, needed)
    difference = mismatch(rows, abstract_state)
    if difference:
        described = manifest["metadata"].get("description", {})
        others = "; ".join(jax_settings.others(described))
        cause = "with another configuration"
        if others:
            cause = f"under other settings of JAX ({others})"
        raise JaxrlError(f"the checkpoint {path} was saved {cause}: {difference}.")
    placed = [
        _place(row, value, leaf) for row, value, leaf in zip(rows, values, leaves, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(abstract_state), placed)


def _leaf_text(row: dict[str, Any] | None) -> str:
    """A leaf in words, as "params.kernel float32[4, 64]"."""
    if row is None:
        return "no further leaf"
    return f"{row['path'] or 'one leaf'} {row['dtype']}{row['shape']}"


def _place(row: dict[str, Any], value: np.ndarray, leaf: Any) -> jax.Array:
    """One leaf on the device: with the abstract leaf's sharding, or uncommitted without one."""
    sharding = getattr(leaf, "sharding", None) if getattr(leaf, "committed", True) else None
    if "key" not in row:
        return jnp.asarray(value) if sharding is None else jax.device_put(value, sharding)
    wrap = functools.partial(jax.random.wrap_key_data, impl=row["key"])
    if sharding is None:
        return wrap(jnp.asarray(value))
    if sharding.is_fully_addressable:
        return jax.device_put(wrap(jnp.asarray(value)), sharding)
    # device_put does not spread keys over processes.
    return jax.jit(wrap, out_shardings=sharding)(value)


def digest(manifest: dict[str, Any], values: list[np.ndarray]) -> str:
    """SHA-256 over the manifest and every leaf's dtype, shape and bytes, in tree order.

    Segments of logs have checksums of their own.
    """
    described = {name: item for name, item in manifest.items() if name != "sha256"}
    total = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for row, value in zip(manifest["leaves"], values, strict=True):
        if "log" in row:
            continue
        total.update(f"{value.dtype}{value.shape}".encode())
        total.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _array_names(leaves: list[dict[str, Any]]) -> list[str]:
    """Names for Orbax: the position makes them unique, the path readable."""
    return [
        f"{index:04d}-{re.sub('[^A-Za-z0-9_.]', '_', row['path'])}"
        for index, row in enumerate(leaves)
    ]


def save_arrays(path: Path, leaves: list[dict[str, Any]], values: list[Any]) -> None:
    """Write the arrays with Orbax, but for those without elements, which the manifest describes."""
    named = zip(_array_names(leaves), leaves, values, strict=True)
    arrays = {name: value for name, row, value in named if value.size and "log" not in row}
    if arrays:
        with _quiet_orbax() as (ocp, checkpointer):
            checkpointer.save(path, args=ocp.args.PyTreeSave(arrays))


def load_arrays(path: Path, leaves: list[dict[str, Any]]) -> list[np.ndarray]:
    """Read the arrays back, as NumPy arrays; the rows of a Log are zeros yet."""
    named = zip(_array_names(leaves), leaves, strict=True)
    sizes = {name: 0 if "log" in row else math.prod(row["shape"]) for name, row in named}
    arrays = {}
    if any(sizes.values()):
        with _quiet_orbax() as (ocp, checkpointer):
            kinds = {
                name: ocp.RestoreArgs(restore_type=np.ndarray)
                for name, size in sizes.items()
                if size
            }
            arrays = checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=kinds))
    found = []
    for (name, size), row in zip(sizes.items(), leaves, strict=True):
        shape, dtype = _layout(row)
        value = arrays[name] if size else np.zeros(shape, dtype)
        if value.shape != shape or value.dtype != dtype:
            raise ValueError(
                f"{row['path']} is {value.dtype}{list(value.shape)}, not {dtype}{list(shape)}"
            )
        found.append(value)
    return found


def _layout(row: dict[str, Any]) -> tuple[tuple[int, ...], Any]:
    """Shape and type of a leaf's data."""
    if "key" not in row:
        return tuple(row["shape"]), jnp.dtype(row["dtype"])
    one = jax.random.key(0, impl=row["key"])
    if str(one.dtype) != row["dtype"]:
        raise ValueError(f"{row['path']} is {row['dtype']}, but its keys are {row['key']}")
    data = jax.random.key_data(one)
    return (*row["shape"], *data.shape), data.dtype


@functools.cache
def _checkpointer() -> tuple[Any, Any]:
    """Orbax, imported when it is needed (it takes a second), and its plainest checkpointer."""
    import orbax.checkpoint as ocp

    index = jax.process_index()
    alone = {
        "primary_host": index,
        "active_processes": {index},
        "barrier_sync_key_prefix": f"process{index}",
    }
    options = ocp.options.MultiprocessingOptions(**alone if jax.process_count() > 1 else {})
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=options)
    return ocp, ocp.Checkpointer(handler, multiprocessing_options=options)


@contextmanager
def _quiet_orbax() -> Iterator[tuple[Any, Any]]:
    """Orbax and its checkpointer, without its log messages and warnings."""
    logger = logging.getLogger("absl")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            checkpointer = _checkpointer()
            logger.setLevel(logging.CRITICAL)
            yield checkpointer
        finally:
            logger.setLevel(level)

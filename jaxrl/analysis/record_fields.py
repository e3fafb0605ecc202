"""What each field of a run's JSON files must be: of config.json, and of a checkpoint's manifest."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

LARGEST = 2**63 - 1


def wrong_field(found: dict[str, Any], fields: dict[str, Field]) -> str | None:
    """What is wrong with the first of `fields` that is there and not as it must be, if any is."""
    for name, (is_right, what) in fields.items():
        if name in found and not is_right(found[name]):
            inner = found[name] if is_right is _are_texts and isinstance(found[name], dict) else {}
            for key, value in inner.items():
                if not isinstance(value, str):
                    return f"{name}.{key} is {short(value)}, but must be text"
            return f"{name} is {short(found[name])}, but must be {what}"
    return None


def short(value: Any) -> str:
    """A value in a few words."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def is_count(value: Any) -> bool:
    """Whether it is a whole number of things, which 64 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_sweep(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(values, list) and values for values in value.values()
    )


def _is_layout(value: Any) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"[a-z]+=[0-9]+(,[a-z]+=[0-9]+)*", value) is not None
    )


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_known(value: Any) -> bool:
    return isinstance(value, dict) and wrong_field(value, DESCRIPTION) is None


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(step, dict) and isinstance(step.get("before", ""), str) for step in value
    )


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_count, value))


def _are_scores(value: Any) -> bool:
    return shape_of(value) is not None and all(
        isinstance(score, float) for row in value for score in row
    )


def _are_iterations(value: Any) -> bool:
    return shape_of(value) is not None and all(map(_are_counts, value))


def shape_of(value: Any) -> tuple[int, int] | None:
    """(H, S) of nested lists [H][S]; None of anything else."""
    if not isinstance(value, list) or not value or not all(isinstance(row, list) for row in value):
        return None
    return (len(value), len(value[0])) if len(set(map(len, value))) == 1 else None


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _are_leaves(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("path"), str)
        and isinstance(row.get("dtype"), str)
        and isinstance(row.get("shape"), list)
        and all(map(is_count, row["shape"]))
        and isinstance(row.get("key", ""), str)
        and isinstance(row.get("part", ""), str)
        and ("key" in row) == row["dtype"].startswith("key<")
        and is_count(row.get("log", 0))
        and is_count(row.get("counts", 0))
        and not ("log" in row and ("counts" in row or "key" in row))
        for row in value
    )


def _are_logs(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(segments, list) and all(map(_is_segment, segments)) for segments in value
    )


def _is_segment(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("sha256"), str)
        and re.fullmatch("[0-9a-f]{64}", value["sha256"]) is not None
        and is_count(value.get("bytes"))
        and isinstance(value.get("pieces"), list)
        and all(map(_is_piece, value["pieces"]))
    )


def _is_piece(value: Any) -> bool:
    if not _are_counts(value) or len(value) != 4:
        return False
    slot, end, first, last = value
    return slot < end and first < last


Field = tuple[Callable[[Any], bool], str]
DESCRIPTION: dict[str, Field] = {
    "format": (is_count, "a whole number"),
    "algorithm": (_is_text, "a name"),
    "environment": (_is_text, "a name"),
    "environment_options": (_is_object, "an object"),
    "config": (_is_object, "an object of settings"),
    "run": (_is_object, "an object of settings"),
    "sweep": (_is_sweep, "an object with a list of values for each name"),
    "sampled": (_are_texts, "an object that says for each name of what was drawn"),
    "samples_per_step": (is_count, "a whole number"),
    "num_iterations": (is_count, "a whole number"),
    "layout": (_is_layout, "text such as env=1,seed=1"),
    "versions": (_are_texts, "an object of versions"),
    "inputs": (_are_texts, "an object of checksums"),
    "history": (_is_history, "a list of changes"),
}
METADATA: dict[str, Field] = {
    "iteration": (is_count, "a whole number"),
    "seconds": (_is_duration, "a number of seconds"),
    "description": (_is_known, "what config.json said"),
    "rows": (is_count, "a whole number"),
    "rows_sha256": (_is_text, "a checksum"),
    "evaluated": (_are_counts, "a list of whole numbers"),
    "evaluations_sha256": (_is_text, "a checksum"),
    "with_last_sha256": (_is_text, "a checksum"),
    "shape": (_are_counts, "a list of whole numbers"),
    "scores": (_are_scores, "a number for each setting and seed"),
    "iterations": (_are_iterations, "a whole number for each setting and seed"),
}
MANIFEST: dict[str, Field] = {
    "iteration": (is_count, "a whole number"),
    "metadata": (_is_object, "an object"),
    "leaves": (_are_leaves, "a list with path, dtype and shape of each array"),
    "files": (_are_texts, "an object of checksums"),
    "sha256": (_is_text, "a checksum"),
}
LOGS: dict[str, Field] = {
    "logs": (
        _are_logs,
        "a list with the segments of each log: sha256, bytes and pieces [slot, end, first, last]",
    ),
}

"""What a run recorded, by name: metrics of training, and evaluations as "evaluation/…".

The names are those that trackers show: `loss`, `evaluation/deterministic_return`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis.records import LENGTHS, RETURNS, counter_of, counters_of, measures_of, modes_of

EVALUATION = "evaluation/"


class Series(NamedTuple):
    """One recorded number of each of H settings and S seeds, at L points of a run.

    iteration: [L].
    counts:    [L], how far the run was, in its unit.
    seconds:   [L], of training; NaN where that is not known.
    values:    [L, H, S]; NaN where there was nothing to average, and of members that diverged.
    """

    iteration: np.ndarray
    counts: np.ndarray
    seconds: np.ndarray
    values: np.ndarray


def metric_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics of training, in the order in which they occur."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in counters_of(row)))


def evaluation_names(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Returns and lengths of each mode, then measures: "evaluation/x[0,1]" of one that has axes."""
    found = []
    for mode in modes_of(arrays):
        found += [f"{EVALUATION}{mode}_return", f"{EVALUATION}{mode}_length"]
    for name, values in measures_of(arrays).items():
        found += [f"{EVALUATION}{name}{place}" for place in _places(values)]
    return found


def members_of(
    rows: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray]
) -> tuple[int, int] | None:
    """(settings, seeds) of what was recorded; None if it does not say."""
    if arrays:
        _, settings, seeds, _ = arrays[modes_of(arrays)[0] + RETURNS].shape
        return settings, seeds
    for row in rows:
        for name in metric_names([row]):
            match row[name]:
                case [[*first], *others]:
                    return 1 + len(others), len(first)
    return None


def metric_series(
    rows: Sequence[Mapping[str, Any]], name: str, members: tuple[int, int], path: Any
) -> Series:
    """A metric of training. `path` is where the rows were read: errors name it."""
    rows = [row for row in rows if name in row]
    return Series(
        np.array([row["iteration"] for row in rows], np.int64),
        np.array([row.get(counter_of(row), 0) for row in rows], np.int64),
        np.array([seconds_of(row) for row in rows]),
        np.stack([_of_members(row, name, members, path) for row in rows]),
    )


def evaluation_series(
    rows: Sequence[Mapping[str, Any]], arrays: Mapping[str, np.ndarray], name: str
) -> Series:
    """Evaluations by their name; each took place between the rows of metrics around it."""
    iteration = arrays["iteration"]
    timed = [row for row in rows if np.isfinite(seconds_of(row))]
    seconds = np.full(len(iteration), np.nan)
    if timed:
        ends = [0, *(row["iteration"] for row in timed)]
        seconds = np.interp(iteration, ends, [0.0, *map(seconds_of, timed)])
    values = _evaluated(arrays, name.removeprefix(EVALUATION))
    return Series(iteration, arrays[counter_of(arrays)], seconds, values)


def bridged(values: np.ndarray) -> np.ndarray:
    """Values [L, ...] with straight lines over each member's gaps; ends that lack a value do still.

    For metrics of training, whose rows may have nothing to average, as where no episode ended.
    """
    result = np.array(values, np.float64, order="C")  # whose columns are views
    places = np.arange(len(result))
    for member in result.reshape(len(result), -1).T:
        known = np.flatnonzero(np.isfinite(member))
        if known.size:
            inner = slice(known[0], known[-1] + 1)
            member[inner] = np.interp(places[inner], known, member[known])
    return result


def smoothed(values: np.ndarray, points: int) -> np.ndarray:
    """Moving means over `points` values [L, ...], fewer at the ends, of those that are finite.

    What follows a member's last finite value stays undefined: it had diverged.
    """
    result = np.full(np.shape(values), np.nan)
    finite = np.isfinite(values)
    filled = np.where(finite, values, 0.0)
    before = (points - 1) // 2
    for place in range(len(values)):
        window = slice(max(0, place - before), place + points - before)
        count = finite[window].sum(axis=0)
        mean = filled[window].sum(axis=0) / np.maximum(count, 1)
        alive = (count > 0) & finite[place:].any(axis=0)
        result[place] = np.where(alive, mean, np.nan)
    return result


def _places(values: np.ndarray) -> list[str]:
    """How the numbers that a measure [K, H, S, ...] has of each member are told apart."""
    if values.ndim == 3:
        return [""]
    return [f"[{','.join(map(str, place))}]" for place in np.ndindex(values.shape[3:])]


def _evaluated(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The values [K, H, S] of an evaluation; episodes are averaged."""
    for mode in modes_of(arrays):
        for what in (RETURNS, LENGTHS):
            if name == f"{mode}{what.removesuffix('s')}":
                return arrays[mode + what].mean(axis=-1, dtype=np.float64)
    name, _, place = name.partition("[")
    values = measures_of(arrays)[name]
    if place:
        index = np.ravel_multi_index(
            tuple(map(int, place.rstrip("]").split(","))), values.shape[3:]
        )
        values = values.reshape(*values.shape[:3], -1)[..., index]
    return values.astype(np.float64)


def seconds_of(row: Mapping[str, Any]) -> float:
    """The seconds of training that a row of metrics has, NaN without any."""
    match row.get("seconds"):
        case bool():
            return float("nan")
        case int() | float() as found if abs(found) < 1e18:  # not 10^400, which no float is
            return float(found)
    return float("nan")


def _of_members(
    row: Mapping[str, Any], name: str, members: tuple[int, int], path: Any
) -> np.ndarray:
    """A metric of one row as [H, S]; a single number is that of all members."""
    try:
        found = np.array(row[name], np.float64)
        if found.shape in ((), members):
            return np.broadcast_to(found, members)
    except (TypeError, ValueError, OverflowError):  # words, lists of other lengths, 10^400
        pass
    text = repr(row[name])
    raise ValueError(
        f"{path}: {name!r} of iteration {row['iteration']} is {text[:60]}, but must be a number, "
        f"null, or a list of {members[0]} lists of {members[1]} of them."
    )

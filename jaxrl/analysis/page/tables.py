"""What a page says of runs in tables: how they ended, what was set, and on what they ran."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxrl.analysis.page.markup import Markup, element, folded, joined, table
from jaxrl.analysis.ranking import interval, member_scores, order, setting_score
from jaxrl.analysis.records import COUNTS, LENGTHS, RETURNS, counter_of
from jaxrl.analysis.runs import Run, setting_name
from jaxrl.analysis.series import seconds_of
from jaxrl.analysis.statistics import normalised
from jaxrl.analysis.style import short_number

DESCRIBED = ("algorithm", "environment", "environment_options", "config", "run")
LONGEST = 200  # letters of a value that are shown
ABSENT = "–"


def overview(names: Sequence[str], runs: Sequence[Run]) -> Markup:
    """A row for each run: what it is, and how far it came."""
    rows = []
    for name, run in zip(names, runs, strict=True):
        settings, seeds = run.members
        rows.append(
            [name, run.algorithm, run.environment, str(settings), str(seeds), *_reached(run)]
        )
    head = ["run", "algorithm", "environment", "settings", "seeds", "trained for", "seconds", ""]
    return table(head, rows, numbers=(3, 4, 5, 6))


def evaluations(names: Sequence[str], runs: Sequence[Run]) -> Markup:
    """The last evaluation of each run: a row for each setting, the best one first, and mode."""
    rows = [row for name, run in zip(names, runs, strict=True) for row in _evaluated(name, run)]
    if not rows:
        return element("p", "No run was evaluated yet.")
    head = ["run", "setting", "mode", "return", "95% interval", "normalised", "length"]
    head += ["episodes", "seeds", "after"]
    used = [place for place in range(len(head)) if any(row[place] for row in rows)]
    return table(
        [head[place] for place in used],
        [[row[place] for place in used] for row in rows],
        numbers=[index for index, place in enumerate(used) if place > 2],
    )


def configuration(names: Sequence[str], runs: Sequence[Run]) -> Markup:
    """In which settings runs differ, and all of them; of one run, all."""
    described = []
    for run in runs:
        values = flattened({key: run.config[key] for key in DESCRIBED if key in run.config})
        swept = {
            f"config.{name}": f"swept: {', '.join(map(str, each))}"
            for name, each in run.sweep.items()
        }
        described.append(values | swept)
    return _compared(names, described, "setting")


def versions(names: Sequence[str], runs: Sequence[Run]) -> Markup:
    """On what runs were trained: packages, devices, how these were shared."""
    described = [
        dict(run.config.get("versions") or {})
        | {key: run.config[key] for key in ("layout", "format") if key in run.config}
        for run in runs
    ]
    return _compared(names, described, "package")


def flattened(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested objects as one, by paths: {"config.gamma": 0.99}; empty ones are not there."""
    found: dict[str, Any] = {}
    for key, inner in value.items():
        name = f"{path}.{key}" if path else key
        if isinstance(inner, dict):
            found |= flattened(inner, name)
        else:
            found[name] = inner
    return found


def _compared(names: Sequence[str], described: Sequence[Mapping[str, Any]], what: str) -> Markup:
    """Values by name, a column for each run: first those that differ."""
    keys = list(dict.fromkeys(key for each in described for key in each))
    rows = [[key, *(_text(each, key) for each in described)] for key in keys]
    if len(described) == 1:
        return folded(f"{len(rows)} values", table([what, *names], rows))
    different = [row for row in rows if len(set(row[1:])) > 1]
    everything = folded(f"all {len(rows)} values", table([what, *names], rows))
    if not different:
        return joined([element("p", "The runs do not differ."), everything])
    return joined([table([what, *names], different), everything])


def _text(values: Mapping[str, Any], key: str) -> str:
    """A value as it stands in config.json, cut off where it is long."""
    if key not in values:
        return ABSENT
    value = values[key]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _reached(run: Run) -> tuple[str, str, str]:
    """How far a run came, in how many seconds, and whether there is more of it to come."""
    rows = [row for row in run.metrics if counter_of(row) == COUNTS[run.unit]]
    iteration = rows[-1]["iteration"] if rows else 0
    count = rows[-1].get(COUNTS[run.unit], 0) if rows else 0
    seconds = seconds_of(rows[-1]) if rows else float("nan")
    whole = run.config.get("num_iterations")
    is_whole = whole is None or iteration >= whole
    return (
        f"{count:,} {run.unit}",
        short_number(seconds) if np.isfinite(seconds) else "",
        "" if is_whole else f"unfinished: iteration {iteration:,} of {whole:,}",
    )


def _evaluated(name: str, run: Run) -> Iterator[list[str]]:
    """Rows of the last evaluation of a run."""
    if not run.evaluations:
        return
    settings = [setting_name(setting) for setting in run.settings]
    last = {mode: run.evaluations[mode + RETURNS][-1] for mode in run.modes}
    after = f"{int(run.counts[-1]):,} {run.unit}"
    for index in order(member_scores(last[run.modes[0]])):
        for mode, returns in last.items():
            earned = returns[index]
            score, (low, high) = setting_score(member_scores(earned)), interval(earned)
            lengths = run.evaluations[mode + LENGTHS][-1, index]
            yield [
                name,
                settings[index],
                mode,
                _number(score),
                f"{_number(low)} to {_number(high)}" if np.isfinite(low + high) else "",
                _normalised(run, score),
                _number(float(np.mean(lengths))),
                f"{earned.size:,}",
                str(len(earned)),
                after,
            ]


def _normalised(run: Run, score: float) -> str:
    """The score on the scale of its environment, if that is known."""
    match run.config.get("reference_scores"):
        case [int() | float() as random, int() | float() as expert]:
            return _number(normalised(score, random, expert))
    return ""


def _number(value: float) -> str:
    """A score as tables show it; that of a seed which diverged is none."""
    return f"{value:,.1f}" if np.isfinite(value) else "diverged"

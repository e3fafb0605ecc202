"""Runs as one web page that needs no other file: curves, tables, films, and what repeats them."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from jaxrl.analysis.page.chart import chart
from jaxrl.analysis.page.markup import Markup, element, folded, joined, section
from jaxrl.analysis.page.tables import configuration, evaluations, overview, versions
from jaxrl.analysis.panels import Curve
from jaxrl.analysis.plots import Look, curve_of, short_setting
from jaxrl.analysis.runs import Run, names_of
from jaxrl.analysis.series import EVALUATION, evaluation_names, metric_names
from jaxrl.analysis.style import PALETTE, write_bytes

NOTE = (
    "Curves are interquartile means over seeds, with 95% bootstrap intervals over seeds; one seed "
    "has no interval, and intervals of few seeds are too narrow. Where a seed diverged is a gap."
)


LARGEST = 1e303  # beyond it, sums and differences of what is drawn would overflow


class Shown(NamedTuple):
    """A run on a page: the command that repeats it, or why there is none; and a film as GIF."""

    run: Run
    command: str
    film: bytes | None = None


def write_page(shown: Sequence[Shown], path: str | Path) -> Path:
    """Write a page about runs; the same runs give the same bytes."""
    return write_bytes(path, page(shown).encode())


def page(shown: Sequence[Shown]) -> str:
    """A page about runs, as HTML. Whatever runs say is text on it, and never becomes code.

    Should any of it be taken for code all the same, the page's policy lets only its own script run,
    and nothing be fetched.
    """
    runs = [each.run for each in shown]
    names = names_of(runs)
    script = _own("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fetched = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    policy = f"{fetched}; script-src 'sha256-{digest}'"
    body = [
        overview(names, runs),
        section(
            "Evaluation",
            element("p", NOTE, class_="note"),
            element("div", *_charts(names, runs, _returns(runs)), class_="charts"),
            evaluations(names, runs),
        ),
        *_films(names, shown),
        section("Configuration", configuration(names, runs)),
        section("Training", *_training(names, runs)),
        section("Versions", versions(names, runs)),
        section("Again", *_commands(names, shown)),
    ]
    text = Template(_own("page.html"))
    return text.substitute(
        title=joined([", ".join(names)]),
        policy=joined([policy]),
        style=_own("page.css"),
        script=script,
        body="\n".join(body),
    )


def _own(name: str) -> str:
    """A file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _returns(runs: Sequence[Run]) -> list[str]:
    """The evaluation returns of all modes."""
    names = [f"{EVALUATION}{mode}_return" for run in runs for mode in run.modes]
    return list(dict.fromkeys(names))


def _training(names: Sequence[str], runs: Sequence[Run]) -> Iterator[Markup]:
    """Metrics of training, and beneath them what evaluations measured besides returns."""
    metrics = list(dict.fromkeys(name for run in runs for name in metric_names(run.metrics)))
    charts = list(_charts(names, runs, metrics))
    yield (
        element("div", *charts, class_="charts small")
        if charts
        else element("p", "There are no metrics yet.")
    )
    others = dict.fromkeys(name for run in runs for name in evaluation_names(run.evaluations))
    # Of a measure with axes of its own there may be thousands.
    scalar = [name for name in others if "[" not in name and name not in _returns(runs)]
    if charts := list(_charts(names, runs, scalar)):
        yield folded("more of the evaluations", element("div", *charts, class_="charts small"))


def _charts(names: Sequence[str], runs: Sequence[Run], metrics: Sequence[str]) -> Iterator[Markup]:
    """A chart for each metric, environment and unit in which there is something to draw."""
    colours = _colours(runs)
    environments = {run.environment for run in runs}
    for metric in metrics:
        places: dict[tuple[str, str], list[Curve]] = {}
        for index, (name, run) in enumerate(zip(names, runs, strict=True)):
            if metric in run.names and len(run.series(metric).values):
                found = places.setdefault((run.environment, run.unit), [])
                found += _curves(name if len(runs) > 1 else "", run, metric, colours[index])
        for (environment, _), curves in places.items():
            title = f"{metric}, {environment}" if len(environments) > 1 else metric
            if curves:
                yield chart(title, curves)


def _curves(name: str, run: Run, metric: str, colours: Sequence[str]) -> Iterator[Curve]:
    """The curves of a metric: one for each setting in which anything is finite."""
    for index, (setting, values) in enumerate(
        zip(run.settings, np.moveaxis(run.series(metric).values, 1, 0), strict=True)
    ):
        if (np.abs(values) < LARGEST).any():  # which NaN is not
            label = " ".join(filter(None, [name, short_setting(setting)])) or run.algorithm
            curve = curve_of(run, index, label, colours[index], Look(metric))
            drawn = np.where(np.abs(curve.scores) < LARGEST, curve.scores, np.nan)
            yield curve._replace(scores=drawn)


def _colours(runs: Sequence[Run]) -> list[list[str]]:
    """For each run a colour for each setting: as many as can be told apart, or else a scale."""
    counts = [len(run.settings) for run in runs]
    colours = list(PALETTE)
    if sum(counts) > len(colours):
        colours = [to_hex(c) for c in matplotlib.colormaps["turbo"](np.linspace(0, 1, sum(counts)))]
    ends = np.cumsum(counts)
    return [colours[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _films(names: Sequence[str], shown: Sequence[Shown]) -> Iterator[Markup]:
    """Films, where there are any."""
    films = []
    for name, each in zip(names, shown, strict=True):
        if each.film is not None:
            source = f"data:image/gif;base64,{base64.b64encode(each.film).decode()}"
            picture = Markup(f'<img alt="" src="{source}">')
            films.append(element("figure", element("figcaption", name), picture))
    if films:
        yield section("Films", element("div", *films, class_="films"))


def _commands(names: Sequence[str], shown: Sequence[Shown]) -> Iterator[Markup]:
    """The command that repeats each run."""
    for name, each in zip(names, shown, strict=True):
        if len(shown) > 1:
            yield element("p", name)
        yield element("pre", each.command)

"""The picture of scaling_envs.py, from its JSON alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Cells, Panel, picture
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scaling_report import bandit_rules, final, games, numbered, scaled, sweeps

from jaxrl.analysis.style import FAINT, PALETTE, headline, short_number

RULES = ("R1", "R2", "R3", "R4")


def draw(cells: Cells, path: Path) -> None:
    """Every panel that the finished cells fill, in one picture."""
    every: list[tuple[Any, Callable[[Axes, Any], None]]] = [
        (numbered(cells, "bandit/plateau"), draw_plateau),
        (cells.get("bandit/release", {}).get("releases"), draw_releases),
        (sweeps(cells), draw_sweeps),
        (bandit_rules(cells), draw_rules),
        *(
            (scaled(cells, f"minatar/{game}"), partial(draw_game, game=game))
            for game in games(cells)
        ),
    ]

    def filled(data: Any, panel: Callable[[Axes, Any], None]) -> Panel:
        return lambda axes: panel(axes, data)

    picture(path, [filled(data, panel) for data, panel in every if data], 5.4, 3.4)


def _points(axes: Axes, line: dict[float, np.ndarray], colour: str, label: str = "") -> None:
    """Means of the seeds against a number, with a dot per seed."""
    for x, seeds in line.items():
        axes.plot(
            [x] * np.size(seeds),
            np.ravel(seeds),
            color=colour,
            ls="",
            marker="o",
            ms=3,
            alpha=0.35,
            mew=0,
        )
    middle = [np.mean(seeds) for seeds in line.values()]
    axes.plot(
        list(line),
        middle,
        color=colour,
        label=label,
        lw=1.7,
        marker="o",
        ms=5.5,
        mec="white",
        mew=1.0,
    )


def _ticks(axes: Axes, values: Iterable[float]) -> None:
    """A logarithmic axis that names these values alone."""
    axes.set_xscale("log")
    axes.set_xticks(list(values), [short_number(value) for value in values])
    axes.minorticks_off()


def draw_plateau(axes: Axes, plateaus: dict[int, dict[str, Any]]) -> None:
    """Regret against transitions of an iteration."""
    line = {float(batch): final(cell) for batch, cell in plateaus.items()}
    batches = np.array(list(line))
    for power, style in ((1.0, "-"), (0.5, "--")):
        axes.plot(
            batches,
            np.mean(line[batches[0]]) * (batches[0] / batches) ** power,
            color=FAINT,
            lw=1.4,
            ls=style,
        )
    _points(axes, line, PALETTE[0])
    axes.set(yscale="log", xlabel="transitions of an iteration, B", ylabel="regret")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _ticks(axes, batches)
    headline(
        axes, "Where learning stops", "R1: minibatch, learning rate kept; grey: 1/B, dashed 1/√B"
    )


def draw_releases(axes: Axes, arms: dict[str, dict[str, Any]]) -> None:
    """Regret after one setting changed on the plateau."""
    for (name, arm), colour in zip(arms.items(), ("#4D4D4D", *PALETTE), strict=False):
        axes.plot(
            arm["iterations"], np.mean(arm["scores"], axis=(1, 2)), color=colour, lw=1.7, label=name
        )
    axes.set(xlabel="iterations after the change", ylabel="regret")
    axes.set_ylim(0, 1.5 * axes.get_ylim()[1])
    axes.legend(loc="upper right", ncols=2, fontsize=8)
    headline(
        axes,
        "Released from the plateau",
        "from B = 1024; fresh Adam in every arm; mean of the seeds",
    )


def draw_sweeps(axes: Axes, settings: dict[str, dict[float, np.ndarray]]) -> None:
    """Regret against each setting in units of its default."""
    defaults = {"learning_rate": 1e-3, "clip_epsilon": 0.2, "num_epochs": 4}
    for (name, values), colour in zip(settings.items(), PALETTE, strict=False):
        line = {value / defaults[name]: values[value] for value in sorted(values)}
        _points(axes, line, colour, f"{name} (default {short_number(defaults[name])})")
    _ticks(axes, (0.125, 0.25, 0.5, 1, 2))
    axes.set(xlabel="times its default", ylabel="regret")
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])
    axes.legend(loc="upper center", ncols=2, fontsize=8)
    headline(
        axes, "One setting at a time", "B = 1024, after equally many iterations; a dot per seed"
    )


def draw_rules(axes: Axes, by_factor: dict[int, dict[str, dict[str, Any]]]) -> None:
    """Regret against the number of environments, a line for each rule."""
    _draw_by_rule(axes, by_factor)
    axes.set(xlabel="times 1024 environments", ylabel="regret")
    headline(axes, "The rules in the bandit", "at equal iterations; a dot per seed")


def draw_game(axes: Axes, by_number: dict[int, dict[str, dict[str, Any]]], game: str) -> None:
    """Return against the number of environments, a line for each rule."""
    _draw_by_rule(axes, by_number)
    axes.set(xlabel="environments", ylabel="return, deterministic")
    headline(axes, f"The rules in {game}", "at equal transitions; a dot per seed")


def _draw_by_rule(axes: Axes, by_number: dict[int, dict[str, dict[str, Any]]]) -> None:
    first = next(iter(by_number))
    alone = by_number[first].keys() == {"R1"}  # with nothing scaled yet the rules are one
    for rule, colour in zip(RULES, PALETTE, strict=False):
        line = {number: rules[rule] for number, rules in by_number.items() if rule in rules}
        if line or rule == "R1":
            line = ({first: by_number[first]["R1"]} if alone else {}) | line
            _points(axes, {number: final(cell) for number, cell in line.items()}, colour, rule)
    _ticks(axes, by_number)
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    axes.legend(loc="upper right", ncols=4, fontsize=8)

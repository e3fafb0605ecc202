"""The tables and the picture of stepmix.py, from its JSON alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Cells, Panel, picture, sections, table
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from jaxrl.analysis.style import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    count_label,
    headline,
    label_ends,
)

COLOURS = dict(zip(("stepmix", "epsmix", "ucbvi", "switch", "baseline"), PALETTE, strict=False))
NAMES = {
    "stepmix": "StepMix",
    "epsmix": "EpsMix",
    "ucbvi": "UCBVI",
    "switch": "switch",
    "baseline": "baseline",
}
# Of a prototype written before and apart from this code: (violating episodes, least return, regret
# at the end).
FIGURE_REFERENCE = {
    "5/kl/stepmix": (0, 2.205, 722),
    "5/kl/epsmix": (0, 2.190, 1054),
    "5/kl/ucbvi": (201, 0.971, 470),
    "10/kl/stepmix": (0, 2.343, 588),
    "10/kl/epsmix": (0, 2.330, 722),
    "10/kl/ucbvi": (389, 0.971, 470),
    "5/anchored/stepmix": (0, None, 1203),
    "5/anchored/epsmix": (0, None, 1813),
    "5/anchored/ucbvi": (439, None, 746),
}
HUB_REFERENCE = {"stepmix": 6062, "epsmix": 8830, "switch": 23_100, "ucbvi": 1766}
OFFLINE_REFERENCE = {"30": 4111, "1000": 2579, "3000": 1555, "10000": 69, "30000": 24}


def part_of(cell: str) -> str:
    """The part that a cell belongs to: safety, of safety/hub."""
    return cell.partition("/")[0]


def rows_of(cells: Cells, part: str) -> Cells:
    """The rows of a part, from all of its cells; {} if none is finished."""
    found = [cell["rows"] for name, cell in cells.items() if part_of(name) == part]
    return {name: row for rows in found for name, row in rows.items()}


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def reference(known: dict[str, Any], name: str, row: dict[str, Any], episodes: int) -> Any:
    """What the prototype found, for a run of as many episodes as its own."""
    return known.get(name) if row.get("episodes", episodes) == episodes else None


def text(cells: Cells) -> str:
    """Every table that the finished parts fill."""
    tables = {
        "figure": figure_table,
        "hub": hub_table,
        "safety": safety_table,
        "bounds": bounds_table,
        "offline": offline_table,
    }
    rows = {part: rows_of(cells, part) for part in tables}
    return sections(*(make(rows[part]) for part, make in tables.items() if rows[part]))


def figure_table(part: Cells) -> str:
    """The paper's MDP: every method under both families of bounds."""
    lines = []
    for name, row in part.items():
        eta, bound, method = name.split("/")
        known = reference(FIGURE_REFERENCE, name, row, 20_000) or (None, None, None)
        violating = np.mean(row["violating_episodes"])
        lines.append(
            [eta, bound, NAMES[method], f"{violating:g} ({number(known[0], 0)})"]
            + [f"{row['least_return']:.3f} ({number(known[1])})"]
            + [f"{list(row['regret'].values())[-1]:,.0f} ({number(known[2], 0)})"]
            + [f"{row['baseline_share']:.3f} / {row['mixed_share']:.3f}"]
        )
    header = [
        "η",
        "bounds",
        "method",
        "violating episodes per seed",
        "least return",
        "regret at the end",
        "baseline / mixed share",
    ]
    return table(header, lines, "Paper's MDP, γ = 0.9 V^b, in brackets the reference:")


def hub_table(part: Cells) -> str:
    """Regret on the hub."""
    marks = list(next(iter(part.values()))["regret"])
    lines = [
        [
            NAMES[method],
            *(f"{row['regret'][mark]:,.0f}" for mark in marks),
            number(reference(HUB_REFERENCE, method, row, 20_000), 0),
        ]
        + [f"{np.mean(row['violating_episodes']):g}"]
        for method, row in part.items()
    ]
    header = [
        "method",
        *(f"regret at {count_label(int(mark))}" for mark in marks),
        "reference",
        "violating episodes per seed",
    ]
    return table(header, lines, "Hub, scale 0.1:")


def safety_table(part: Cells) -> str:
    """Violations."""
    lines = []
    for name, row in part.items():
        environment, method, scale = name.split("/")
        violating = np.array(row["violating_episodes"])
        seeds = f"{(violating > 0).sum()} of {len(violating)}"
        total = f"{violating.sum():,} of {len(violating) * row['episodes']:,}"
        lines.append(
            [environment, NAMES[method], scale, seeds, total, f"{row['least_return']:.3f}"]
        )
    header = [
        "MDP",
        "method",
        "scale",
        "seeds that violate",
        "episodes that violate",
        "least return",
    ]
    return table(header, lines, "Violations:")


def bounds_table(part: Cells) -> str:
    """Wrong bounds."""
    lines = [
        [*name.split("/"), f"{row['plans']:,}", f"{row['wrong']:,} of {row['bounds']:,}"]
        for name, row in part.items()
    ]
    about = (
        "Bounds of the candidates and of the optimum in either family, and of 100 random policies, "
        "at every plan (the anchored family is for candidates alone: random policies are bounded "
        "by the other one):"
    )
    return table(["MDP", "bounds", "scale", "plans", "wrong"], lines, about)


def offline_table(part: Cells) -> str:
    """Certificates and regret against the size of the dataset."""
    lines = []
    for size, row in part.items():
        seeds = len(row["regret_of_seeds"]) if "regret_of_seeds" in row else 10
        regret = (
            f"{np.mean(row['regret_of_seeds']):,.0f}" if "regret_of_seeds" in row else "refused"
        )
        enough = [f"{row[f'enough/{scale}']:,.0f}" for scale in ("1", "0.1")]
        certified = [f"{row[f'certified/{scale}']} of {seeds}" for scale in ("1", "0.1")]
        violating = sum(row["violating_episodes"]) if "violating_episodes" in row else "–"
        lines.append(
            [
                f"{int(size):,}",
                *certified,
                *enough,
                regret,
                number(reference(OFFLINE_REFERENCE, size, row, 50_000), 0),
                violating,
            ]
        )
    header = [
        "episodes in the data",
        "certified, scale 1",
        "scale 0.1",
        "said to be enough, scale 1",
        "scale 0.1",
    ]
    header += ["regret, scale 0.1", "reference", "violating episodes"]
    return table(header, lines, "Offline baseline on the hub:")


def draw(cells: Cells, path: Path) -> None:
    """A panel for each of: the paper's figure twice, regret on the hub, regret against data."""
    figure, hub, offline = (rows_of(cells, part) for part in ("figure", "hub", "offline"))
    panels: list[Panel] = []
    if figure:
        panels += [partial(draw_returns, part=figure, eta=eta) for eta in (5, 10)]
    if hub:
        panels.append(partial(draw_regret, part=hub))
    if offline:
        panels.append(partial(draw_offline, part=offline))
    picture(path, panels, 5.6, 3.5)


def draw_returns(axes: Axes, part: Cells, eta: int) -> None:
    """Average expected return against episodes, with the constraint."""
    found = {method: part[f"{eta}/kl/{method}"] for method in ("stepmix", "epsmix", "ucbvi")}
    ends = []
    for method, row in found.items():
        marks = np.array(row["marks"])
        curve = np.array(row["return_curve"]) / np.diff(marks, prepend=0)
        axes.plot(marks, curve, color=COLOURS[method], lw=1.7)
        ends.append((curve[-1], NAMES[method], COLOURS[method]))
    levels = found["stepmix"]
    for name, colour, style in (
        ("threshold", INK, "--"),
        ("baseline", MUTED, ":"),
        ("optimal", FAINT, "-"),
    ):
        axes.axhline(levels[name], color=colour, lw=1.1, ls=style, zorder=1)
    ends += [(levels["threshold"], "constraint", INK), (levels["baseline"], "baseline", MUTED)]
    axes.set_xlim(0, levels["episodes"])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_label(value)))
    axes.set(xlabel="episodes", ylabel="expected return")
    label_ends(axes, ends)
    headline(
        axes,
        f"The paper's MDP, baseline η = {eta}",
        "mean of 10 trials over windows of 0.5 % of the run; grey: V*",
    )


def draw_regret(axes: Axes, part: Cells) -> None:
    """Regret against episodes."""
    ends = []
    for method, row in part.items():
        style = ":" if method == "baseline" else "-"
        axes.plot(row["marks"], row["regret_curve"], color=COLOURS[method], lw=1.7, ls=style)
        ends.append((row["regret_curve"][-1], NAMES[method], COLOURS[method]))
    axes.set_xlim(0, row["episodes"])
    axes.set_ylim(0, None)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: count_label(value)))
    axes.set(xlabel="episodes", ylabel="regret")
    label_ends(axes, ends)
    headline(
        axes,
        "Regret on the hub",
        "mean of 10 seeds; UCBVI violates the constraint, the others never do",
    )


def draw_offline(axes: Axes, part: Cells) -> None:
    """Regret against the size of the dataset, with a dot per dataset."""
    done = {int(size): row for size, row in part.items() if "regret_of_seeds" in row}
    refused = [int(size) for size in part if int(size) not in done]
    for size, row in done.items():
        axes.plot(
            [size] * len(row["regret_of_seeds"]),
            row["regret_of_seeds"],
            color=PALETTE[0],
            ls="",
            marker="o",
            ms=3,
        )
    axes.plot(
        list(done),
        [np.mean(row["regret_of_seeds"]) for row in done.values()],
        color=PALETTE[0],
        lw=1.7,
    )
    axes.set_xscale("log")
    axes.set_ylim(0, None)
    for size in refused:
        axes.axvline(size, color=FAINT, lw=1.1, ls="--", zorder=1)
        axes.text(
            size,
            0.5,
            " refused",
            color=MUTED,
            rotation=90,
            va="center",
            transform=axes.get_xaxis_transform(),
        )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_label(value)))
    axes.set(xlabel="episodes in the dataset", ylabel="regret of 50,000 episodes")
    headline(
        axes,
        "A baseline learnt offline, counts begun with the data",
        "hub, 10 datasets of each size",
    )

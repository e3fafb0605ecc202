"""The tables and the picture of offline_mujoco.py, from its JSON and that of offline.py alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import Cells, picture, read, sections, table
from matplotlib.axes import Axes
from offline import MAZES, METHODS, with_interval

from jaxrl.analysis.statistics import (
    bootstrap_interval,
    improvement_interval,
    interquartile_mean,
    mean_interval,
    probability_of_improvement,
    summarize,
)
from jaxrl.analysis.style import INK, PALETTE, headline

TASKS = {
    "hopper-medium-replay": "Hopper-v5",
    "hopper-medium-expert": "Hopper-v5",
    "halfcheetah-medium-replay": "HalfCheetah-v5",
    "walker2d-medium-replay": "Walker2d-v5",
}
TUNED_ON = ("hopper-medium-replay", "walker2d-medium-replay")
ABLATED_ON, FULL_ON = "halfcheetah-medium-replay", "hopper-medium-replay"
NAMES = ("bc", "td3_bc", "rebrac", "iql", "fql", "dql", "ofql")
FULL = ("ofql", "dql")
ONLINE = ("ofql", "iql", "rebrac", "sac")
BESIDE = ("dql", "iql", "rebrac")  # what the others are compared with
# Cells by what they are: network evaluations per action, and the published score, on D4RL's set of
# the same name, after 2,000,000 gradient steps of 256 units.
ABLATIONS = {
    "flow ratio 0": ("ablation/flow-0", 1, "10.5"),
    "flow ratio 0.5": (f"{ABLATED_ON}/ofql", 1, "51.2"),
    "flow ratio 1": ("ablation/flow-1", 1, "45.2"),
    "uniform times": ("ablation/uniform", 1, "51.7"),
    "Diffusion-QL, 1 step": ("ablation/dql-1", 1, ""),
    "Diffusion-QL, 5 steps": (f"{ABLATED_ON}/dql", 5, "47.8"),
}
USUAL = "flow ratio 0.5"
EPISODES = 10  # per seed
MAZE_RECORD = Path(__file__).parent / "results" / "offline.json"
Scores = dict[str, dict[str, np.ndarray]]  # [seeds], by set and method
HEADER = ["method", "score [95 %]", "best of 50", "seeds"]


def scores(cell: dict[str, Any], mode: str = "") -> np.ndarray:
    """Normalised scores [settings, seeds], of the method's first mode unless named."""
    return np.asarray(cell["scores"][mode or next(iter(cell["scores"]))])


def finished(cells: Cells, dataset: str, mode: str = "") -> dict[str, np.ndarray]:
    """Scores [seeds] on a set by method, the best method first; of those that have the mode."""
    found = {
        name: scores(cells[f"{dataset}/{name}"], mode)[0]
        for name in NAMES
        if f"{dataset}/{name}" in cells
        and (not mode or mode in cells[f"{dataset}/{name}"]["scores"])
    }
    return dict(sorted(found.items(), key=lambda item: -float(item[1].mean())))


def text(cells: Cells) -> str:
    """The results in Markdown."""
    parts: list[str] = []
    for dataset in TASKS:
        rows = [line(name, cells[f"{dataset}/{name}"]) for name in finished(cells, dataset)]
        if rows:
            parts += [f"**{dataset}**", table(HEADER, rows)]
    parts += overall(cells) + tuning(cells) + grid(cells)
    parts += ablations(cells) + full_size(cells) + online(cells)
    parts.append(
        f"Scores of the last policies, {EPISODES} episodes per seed: 0 for random actions, 100 for "
        "the teacher's expert. One draw per action of what draws; best of 50: of as many draws the "
        "one that the target critics value most. Intervals: of the mean, by bootstrap over seeds."
    )
    return sections(*parts)


def line(name: str, cell: dict[str, Any]) -> list[Any]:
    """A row of a table: the score, that of the best of 50 draws, seeds."""
    first = scores(cell)[0]
    best = with_interval(scores(cell, "best")[0]) if "best" in cell["scores"] else ""
    return [METHODS[name].title, with_interval(first), best, len(first)]


def overall(cells: Cells) -> list[str]:
    """Over the sets that every method has finished, then with the mazes as well."""
    found = {name: finished(cells, name) for name in TASKS}
    found = {name: each for name, each in found.items() if len(each) == len(NAMES)}
    if not found:
        return []
    words = (
        "the interquartile mean over sets and seeds; mean differences to another method with 95 % "
        "intervals, paired by set and seed; and the probability that a seed of the one beats one "
        "of the other on the same set, ties counted as halves, with its interval."
    )
    best = {name: finished(cells, name, "best") for name in found}
    parts = [f"Over {', '.join(found)}: {words}", compared(found, best)]
    mazes = solved_mazes()
    if mazes:
        parts += [
            f"The same with {', '.join(mazes)}, whose scores are the episodes in 100 that arrive "
            "([offline.md](offline.md)); every method has the coefficient there that was tuned "
            "for mazes.",
            compared(found | mazes, best | solved_mazes("best")),
        ]
    return parts


def solved_mazes(mode: str = "") -> Scores:
    """Episodes in 100 that arrive, [seeds], by maze and method; {} without a record of all."""
    cells = read(MAZE_RECORD)["cells"] if MAZE_RECORD.exists() else {}
    if any(f"{maze}/{name}" not in cells for maze in MAZES for name in NAMES):
        return {}

    found: Scores = {maze: {} for maze in MAZES}
    for maze in MAZES:
        for name in NAMES:
            modes = cells[f"{maze}/{name}"]["modes"]
            if not mode or mode in modes:
                once = modes[mode or next(iter(modes))]
                found[maze][name] = 100.0 * np.asarray(once["successes"][0])
    return found


def compared(found: Scores, best: Scores) -> str:
    """A table of methods against each other, by what they earn with one draw.

    `best` are the scores with the best of several draws, of the methods that draw.
    """
    once = {name: over_sets(found, name) for name in NAMES}
    drawn = {name for name in NAMES if all(name in each for each in best.values())}
    rows = [
        [
            METHODS[name].title,
            middle(once[name]),
            middle(over_sets(best, name)) if name in drawn else "",
            *("" if other == name else difference(once[name], once[other]) for other in BESIDE),
        ]
        for name in sorted(NAMES, key=lambda name: -interquartile_mean(once[name]))
    ]
    beside = [f"less {METHODS[other].title}" for other in BESIDE]
    return table(["method", "IQM [95 %]", "best of 50", *beside], rows)


def over_sets(found: Scores, name: str) -> np.ndarray:
    """A method's scores [seeds, sets]."""
    return np.stack([each[name] for each in found.values()], -1)


def middle(found: np.ndarray) -> str:
    """The interquartile mean of scores [seeds, sets] with its interval."""
    summary = summarize(found)
    return f"{summary.iqm:.1f} [{summary.low:.1f}, {summary.high:.1f}]"


def difference(these: np.ndarray, those: np.ndarray) -> str:
    """The mean difference of scores [seeds, sets], and how probably one is ahead, in per cent."""
    low, high = bootstrap_interval(these - those, np.mean)
    least, most = improvement_interval(these, those)
    ahead = f"{100 * probability_of_improvement(these, those):.0f} %"
    if len(these) > 1:
        ahead += f" [{100 * least:.0f}, {100 * most:.0f}]"
    return f"{(these - those).mean():+.1f} [{low:.1f}, {high:.1f}], {ahead}"


def tuning(cells: Cells) -> list[str]:
    """What was tried of each coefficient, and which value does best on both sets together."""
    rows = []
    for name in NAMES:
        found = {dataset: tried(cells, dataset, name) for dataset in TUNED_ON}
        if not any(found.values()):
            continue
        shown = [
            ", ".join(f"{value:g}: {score:.0f}" for value, score in each.items())
            for each in found.values()
        ]
        common = set.intersection(*map(set, found.values()))
        mean = {value: sum(each[value] for each in found.values()) for value in sorted(common)}
        best = f"{max(mean, key=lambda value: mean[value]):g}" if mean else ""
        rows.append([METHODS[name].title, METHODS[name].coefficient, *shown, best])
    if not rows:
        return []
    steps = next(
        cell["updates"] for place, cell in cells.items() if place.startswith(("tuning/", "beyond/"))
    )
    words = f"Coefficients by the scores of two other seeds after {steps:,} gradient steps:"
    return [words, table(["method", "coefficient", *TUNED_ON, "best"], rows)]


def tried(cells: Cells, dataset: str, name: str) -> dict[float, float]:
    """Mean scores by the coefficient's value, of the first four and of those beyond."""
    found = {}
    for place in (f"tuning/{dataset}/{name}", f"beyond/{dataset}/{name}"):
        if place in cells:
            (values,) = cells[place]["sweep"].values()
            found |= dict(zip(values, scores(cells[place]).mean(1).tolist(), strict=True))
    return dict(sorted(found.items()))


def grid(cells: Cells) -> list[str]:
    """The methods of which a value beyond the first four was chosen, with the best of the four."""
    rows = []
    for name in NAMES:
        found = {
            dataset: cells[place]
            for dataset in TASKS
            if (place := f"grid/{dataset}/{name}") in cells
        }
        if len(found) < len(TASKS):
            continue
        once = np.stack([scores(cell)[0] for cell in found.values()], -1)
        draws = "best" in next(iter(found.values()))["scores"]
        best = np.stack([scores(cell, "best")[0] for cell in found.values()], -1) if draws else None
        value = next(iter(found.values()))["asked"]["config"][METHODS[name].coefficient]
        rows.append(
            [
                METHODS[name].title,
                f"{METHODS[name].coefficient} {value:g}",
                *(f"{score:.1f}" for score in once.mean(0)),
                middle(once),
                "" if best is None else middle(best),
            ]
        )
    if not rows:
        return []
    words = "With the best of the first four values, where one beyond them did better in tuning:"
    return [words, table(["method", "with", *TASKS, "IQM [95 %]", "best of 50"], rows)]


def ablations(cells: Cells) -> list[str]:
    """What parts of OFQL do, beside what its paper says of them."""
    found = ablated(cells)
    usual = found.get(USUAL)
    rows = []
    for words, (place, evaluations, published) in ABLATIONS.items():
        if words not in found:
            continue
        once = found[words]
        best = with_interval(scores(cells[place], "best")[0])
        less = "" if usual is None or words == USUAL else with_interval(once - usual)
        rows.append([words, with_interval(once), less, best, evaluations, published])
    if not rows:
        return []
    header = ["", "score [95 %]", f"less {USUAL}", "best of 50"]
    header += ["network evaluations per draw", "published"]
    words = "published: D4RL's set of that name, 256 units, 2,000,000 gradient steps."
    return [f"Parts on {ABLATED_ON}; {words}", table(header, rows)]


def ablated(cells: Cells) -> dict[str, np.ndarray]:
    """Scores [seeds] with and without parts; {} while there is none without one."""
    if not any(place.startswith("ablation/") for place in cells):
        return {}
    return {
        words: scores(cells[place])[0]
        for words, (place, _, _) in ABLATIONS.items()
        if place in cells
    }


def full_size(cells: Cells) -> list[str]:
    """The two generative methods with layers of the published width."""
    found = {name: cells[f"full/{name}"] for name in FULL if f"full/{name}" in cells}
    if not found:
        return []
    steps = next(iter(found.values()))["updates"]
    rows = [line(name, cell) for name, cell in found.items()]
    return [f"With 256 units and {steps:,} gradient steps on {FULL_ON}:", table(HEADER, rows)]


def online(cells: Cells) -> list[str]:
    """What going on in the environment adds."""
    found = {name: cells[f"online/{name}"] for name in ONLINE if f"online/{name}" in cells}
    rows = []
    for name, cell in found.items():
        after = scores(cell)[0]
        row = [online_title(name), "", with_interval(after), "", len(after)]
        if f"{FULL_ON}/{name}" in cells:
            before = scores(cells[f"{FULL_ON}/{name}"])[0][: len(after)]
            gain = after - before
            low, high = mean_interval(gain)
            row[1], row[3] = with_interval(before), f"{gain.mean():+.1f} [{low:.1f}, {high:.1f}]"
        rows.append(row)
    if not rows:
        return []
    steps = next(iter(found.values()))["updates"]
    words = f"After {steps:,} steps in the environment, from {FULL_ON}:"
    return [words, table(["method", "before [95 %]", "after [95 %]", "gain [95 %]", "seeds"], rows)]


def online_title(name: str, words: str = "") -> str:
    """What went on online, or began there."""
    return "SAC, from nothing" if name == "sac" else f"{METHODS[name].title}{words}"


# ---- The picture


def draw(cells: Cells, path: Path) -> None:
    """A panel for each set, for OFQL's parts, and for going on online: seeds, means, intervals."""
    panels, last = [], "one draw per action"
    for dataset in TASKS:
        found = {METHODS[name].title: each for name, each in finished(cells, dataset).items()}
        best = {
            METHODS[name].title: each for name, each in finished(cells, dataset, "best").items()
        }
        if found:
            words = f"{last}; diamonds: the best of 50"
            panels.append(partial(draw_rows, dataset, words, found, best))
    parts = ablated(cells)
    if parts:
        panels.append(partial(draw_rows, f"parts, {ABLATED_ON}", last, parts, {}))
    gone_on: dict[str, np.ndarray] = {}
    for name in ONLINE:
        if f"online/{name}" in cells:
            if f"{FULL_ON}/{name}" in cells:
                gone_on[online_title(name, ", offline")] = scores(cells[f"{FULL_ON}/{name}"])[0]
            gone_on[online_title(name, ", online")] = scores(cells[f"online/{name}"])[0]
    if gone_on:
        about = "before and after going on in the environment"
        panels.append(partial(draw_rows, f"online, {FULL_ON}", about, gone_on, {}))
    picture(path, panels, width=4.6, height=2.9)


def draw_rows(
    title: str, about: str, rows: dict[str, np.ndarray], best: dict[str, np.ndarray], axes: Axes
) -> None:
    """A row per name: every seed's score, their mean and its interval; the mean of the best."""
    places = np.arange(len(rows))[::-1]
    for place, (name, found) in zip(places, rows.items(), strict=True):
        colour = PALETTE[0] if name.startswith("OFQL") else PALETTE[-1]
        axes.plot(found, np.full(len(found), place), "o", ms=3.0, color=colour, alpha=0.35, mew=0)
        if len(found) > 1:
            axes.hlines(place, *mean_interval(found), color=colour, lw=2.2)
        axes.plot(found.mean(), place, "o", ms=6.5, color=colour, mec="white")
        if name in best:
            axes.plot(best[name].mean(), place, "D", ms=5.0, color=colour, mfc="white", zorder=4)
    axes.set(ylim=(-0.6, len(rows) - 0.4), xlabel="normalised score")
    axes.set_yticks(places, list(rows))
    axes.tick_params(axis="y", labelcolor=INK)
    headline(axes, title, about)

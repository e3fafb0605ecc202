"""What the benchmark of MuJoCo tasks writes: tables and a picture of its record."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from benchmarks.throughput_report import band_of, curves, rate, ratio, remarks
from experiments.harness import markdown, picture, sections
from jaxrl.analysis.style import headline
from jaxrl.train.output.console import human

SYSTEMS = """\
```text
rollout      bare mujoco.rollout on a thread for each core: physics alone, no observation, reward or
             reset, and no warm start of the constraint solver
jaxrl        VectorEnv.step with back end mujoco in a compiled scan: warm starts, observations,
             rewards, exact resets, episode statistics
envpool      the same tasks in C++, on a thread for each core
sync, async  Gymnasium's vector environments: one after another, or a process each
spring, positional, generalized
             Brax's HalfCheetah, another model of its own on physics of its own
mjx          jaxrl's VectorEnv.step with back end mjx: MuJoCo's physics in JAX
```"""
TRAINING = """\
Rates count whole iterations of one seed: rollout, normalisation and update. "stepping" is as many
of jaxrl's environments alone, in the same rounds. SB3 and SBX step Gymnasium's environments one
after another, and normalise neither observations nor rewards, which jaxrl does."""


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    repeats = f"{record['repeats']} rounds" if record["repeats"] > 1 else "one round"
    parts = [
        f"Environment steps per second under random actions: median of {repeats} of about "
        f"{record['seconds']:g} s, in brackets the least and the greatest. Ratios are of the same "
        "round."
    ]
    stepping, training = record["stepping"], record["training"]
    for environment in dict.fromkeys(row["environment"] for row in stepping):
        rows = [row for row in stepping if row["environment"] == environment]
        parts += [f"**{environment}**", markdown([_rates(row, _names(rows)) for row in rows])]
        parts.append(markdown([_ratios(row, _names(rows)) for row in rows]))
    if stepping:
        parts.append(SYSTEMS)
    if training:
        parts += [
            "PPO on HalfCheetah-v5, environment steps per second of training:",
            markdown(_trainings(training)),
        ]
        parts.append(TRAINING)
    parts += [
        "Seconds to build, reset and compile:",
        markdown([_startup(row) for row in [*stepping, *training]]),
    ]
    return sections(*parts, *remarks(record, [*stepping, *training]))


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """The systems of some rows, in order."""
    return list(dict.fromkeys(name for row in rows for name in row["systems"]))


def _rates(row: dict[str, Any], names: list[str]) -> dict[str, str | None]:
    """A line of the rates of environments alone."""
    return {"environments": f"{row['num_envs']:,}"} | {name: rate(row, name) for name in names}


def _ratios(row: dict[str, Any], names: list[str]) -> dict[str, str | None]:
    """A line of what jaxrl's rate is of the others'."""
    others = {
        name: "{:.0%}".format if name == "rollout" else "{:.2f}×".format
        for name in names
        if name != "jaxrl"
    }
    found = {f"jaxrl / {name}": ratio(row, name, style) for name, style in others.items()}
    return {"environments": f"{row['num_envs']:,}"} | found


def _trainings(rows: list[dict[str, Any]]) -> list[dict[str, str | None]]:
    """The lines of PPO."""
    lines = []
    for row in rows:
        sizes = {
            name: f"{row[key]:,}"
            for name, key in (("environments", "num_envs"), ("rollout steps", "num_steps"))
        }
        updates = {"minibatches × epochs": f"{row['num_minibatches']} × {row['num_epochs']}"}
        rates = {name: rate(row, name) for name in _names(rows)}
        shares = {"jaxrl / stepping": ratio(row, "stepping", "{:.0%}".format)}
        shares |= {
            f"jaxrl / {name}": ratio(row, name, "{:.2f}×".format)
            for name in ("sbx", "sb3")
            if name in rates
        }
        lines.append({"setting": row["setting"]} | sizes | updates | rates | shares)
    return lines


def _startup(row: dict[str, Any]) -> dict[str, str | None]:
    """A line of start-up times."""
    what = row.get("environment") or f"PPO, {row['setting']}"
    found = {name: result.get("startup_seconds") for name, result in row["systems"].items()}
    cells = {name: None if seconds is None else f"{seconds:.1f}" for name, seconds in found.items()}
    return {"": what, "environments": f"{row['num_envs']:,}"} | cells


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel for each task."""
    tasks = list(dict.fromkeys(row["environment"] for row in record["stepping"]))
    panels = [partial(panel, record=record, task=task, tasks=tasks) for task in tasks]
    picture(path, panels, 5.2, 4.2, columns=len(panels))


def panel(axes: Axes, record: dict[str, Any], task: str, tasks: list[str]) -> None:
    """Steps per second against the number of environments; in the first task's panel those of PPO
    as stars, below the last one the names of the lines."""
    rows = [row for row in record["stepping"] if row["environment"] == task]
    curves(axes, rows, {"rollout": "bare mujoco.rollout"})
    for row in record["training"] if task == tasks[0] else []:
        found = row["systems"].get("jaxrl", {}).get("steps_per_second")
        if found:
            axes.plot(row["num_envs"], found["median"], "k*", ms=9)
            label = f"PPO {row['setting']}: {human(found['median'])}"
            place = row["num_envs"], found["median"]
            axes.annotate(label, place, (6, -10), textcoords="offset points")
    headline(axes, f"{task}: random actions", band_of(record))
    if task == tasks[-1]:
        handles = axes.figure.axes[0].get_legend_handles_labels()
        axes.figure.legend(*handles, loc="outside lower center", ncols=9)

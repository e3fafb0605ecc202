"""SnapshotRL: students that begin in states that a teacher has seen, beside those that do not.

    python experiments/snapshot_rl.py                # PPO on Hopper: an hour of a core
    python experiments/snapshot_rl.py --full         # Walker2d, HalfCheetah and TD3 too: five hours
    python experiments/snapshot_rl.py --cells ppo/HalfCheetah-v5/none ppo/HalfCheetah-v5/S3RL
    python experiments/snapshot_rl.py --quick        # three variants, a few thousand steps
    python experiments/snapshot_rl.py --report-only

The teacher is the best of several runs, with seeds that no student has. The bank holds every tenth
step of ten of its episodes, with stochastic actions, and its critic's values. Students use it until
the switch; all curves are evaluations from the environment's own starts. What the teacher cost is
in the table, and in no curve.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
import jax.numpy as jnp
import numpy as np
from harness import Cell, Cells, Study, check_choices, run_study, sections, table
from training import TrainingArguments, holds, is_finished, request, train_or_resume

from jaxrl.analysis.plots import plot_comparison
from jaxrl.analysis.runs import Run, load_run
from jaxrl.analysis.statistics import bootstrap_interval, interquartile_mean
from jaxrl.config import override
from jaxrl.data.recording import Recording, load
from jaxrl.data.snapshots import demonstrated
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.files.folder import write_atomically
from jaxrl.train.output.console import Console
from jaxrl.train.recorder import record
from jaxrl.train.saved import Saved, open_policy
from jaxrl.types import View

CLUSTERS, LIMIT = 6, 100  # K and L of the authors' code
TEACHER_SEED, TEACHER_SEEDS = 100, 3
INERT = 0.01  # share of cut episodes below which a limit has done nothing


class Variant(NamedTuple):
    """Where a student begins: from which bank, and how."""

    bank: str
    settings: dict[str, Any]


UNIFORM = {"snapshot_selection": "uniform"}
CLUSTERED = {"snapshot_selection": "clusters", "clusters": CLUSTERS}
CUT = {"snapshot_limit": LIMIT}
VARIANTS = {
    "none": Variant("", {}),
    "snapshots": Variant("teacher", UNIFORM),
    "+SC": Variant("teacher", CLUSTERED),
    "+STT": Variant("teacher", UNIFORM | CUT),
    "S3RL": Variant("teacher", CLUSTERED | CUT),
    "STT, natural starts": Variant("natural", UNIFORM | CUT),
    "S3RL, random bank": Variant("random", CLUSTERED | CUT),
}


class Task(NamedTuple):
    """A learner on an environment, and how long teacher and students learn."""

    algorithm: str
    environment: str
    steps: int
    switch: int
    teacher_steps: int
    variants: tuple[str, ...]
    cpu_seconds_per_transition: float


EVERY = tuple(VARIANTS)
CONTROL = ("none", "S3RL")
BRIEF = ("none", "S3RL", "STT, natural starts")
PPO_SECONDS, TD3_SECONDS = 2.5e-4, 2.6e-3
TASKS = (Task("ppo", "Hopper-v5", 200_000, 40_000, 800_000, EVERY, PPO_SECONDS),)
OTHERS = (
    Task("ppo", "Walker2d-v5", 200_000, 40_000, 800_000, EVERY, PPO_SECONDS),
    Task("ppo", "HalfCheetah-v5", 200_000, 40_000, 800_000, CONTROL, PPO_SECONDS),
    Task("td3", "Hopper-v5", 150_000, 50_000, 300_000, BRIEF, TD3_SECONDS),
)
QUICK = (Task("ppo", "Hopper-v5", 8_192, 4_096, 16_384, BRIEF, 3e-3),)


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Students with and without snapshots."""

    full: bool = False
    """Every task, and not Hopper with PPO alone."""
    cells: tuple[str, ...] = ()
    """Cells to train, of any task; the table shows every cell that has been trained."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    if arguments.quick:
        tasks, seeds, name = QUICK, 2, "snapshot_rl_quick"
    else:
        full = arguments.full or arguments.cells
        tasks, seeds, name = TASKS + (OTHERS if full else ()), 6, "snapshot_rl"
    folder, console = arguments.runs / name, Console()
    cells = {}
    for task in tasks:
        place = folder / f"{task.algorithm}-{task.environment}"
        teacher = Teacher(task, place, 1 if arguments.quick else TEACHER_SEEDS, console)
        for number, variant in enumerate(task.variants):
            first = number == 0  # it trains the teacher too
            cells[f"{task.algorithm}/{task.environment}/{variant}"] = student(
                teacher, variant, seeds, first
            )
    check_choices("cell", arguments.cells, cells)
    chosen = {cell: cells[cell] for cell in arguments.cells or cells}
    return Study(name, chosen, text, partial(draw, folder))


@dataclass(frozen=True)
class Teacher:
    """The runs of a task's teacher, and the banks that are made of the best of them."""

    task: Task
    place: Path
    seeds: int
    console: Console

    @property
    def experiment(self) -> Experiment:
        """What trains it."""
        config, _ = default_config(self.task.algorithm, self.task.environment)
        config = override(config, {"total_steps": self.task.teacher_steps})
        run = RunSettings(seed=TEACHER_SEED, num_seeds=self.seeds, evaluation_episodes=10)
        return Experiment(self.task.algorithm, self.task.environment, config, run)

    def policy(self) -> Saved:
        """The best policy of the seed that ended best, trained if it is not there.

        Banks and students of another teacher are removed.
        """
        folder = self.place / "teacher"
        if self.place.exists() and not holds(folder, self.experiment):
            shutil.rmtree(self.place)
        train_or_resume(self.experiment, folder, self.console)
        return open_policy(folder, "best", modes=("stochastic",))

    def bank(self, kind: str, saved: Saved) -> Path:
        """A bank of its states, of natural starts or of random actions, made if it is not there."""
        path = self.place / f"{kind}.npz"
        if not path.exists():
            made = {"teacher": by_teacher, "natural": of_starts, "random": by_chance}[kind](saved)
            write_atomically(path, made.data())
        return path


def by_teacher(saved: Saved) -> Recording:
    """Every tenth step of ten episodes."""
    return record(saved, 10, stride=10)


def of_starts(saved: Saved) -> Recording:
    """A hundred first states: a bank in which nothing is given but the limit."""
    return record(saved, 100, stride=saved.env.horizon)


def by_chance(saved: Saved) -> Recording:
    """Every state of episodes of random actions, as many as the teacher's bank has about.

    Their values are the teacher's critic's.
    """
    about, env = saved.experiment, saved.env
    wanted, rows, pieces = len(by_teacher(saved)), 0, []
    while rows < wanted:
        key_actions, key = jax.random.split(jax.random.key(len(pieces)))
        keys = jax.random.split(key_actions, env.horizon)
        actions = jax.vmap(env.action_space.sample)(keys)
        options = about.environment_options
        pieces.append(demonstrated(env, about.environment, options, actions, key))
        rows += len(pieces[-1])
    return valued(joined(pieces), saved)


def joined(pieces: list[Recording]) -> Recording:
    """Recordings of an episode each as one."""
    header = dict(pieces[0].header)
    for name in ("episode_returns", "episode_lengths", "episode_truncated"):
        header[name] = [piece.header[name][0] for piece in pieces]
    numbered = [
        replace(piece, episode=piece.episode + number) for number, piece in enumerate(pieces)
    ]
    rows = [{k: v for k, v in vars(piece).items() if k != "header"} for piece in numbered]
    return Recording(header, **jax.tree.map(lambda *leaves: np.concatenate(leaves), *rows))


def valued(recording: Recording, saved: Saved) -> Recording:
    """The recording with the values of a policy's critic."""
    agent, policies = saved.agent, saved.policies
    assert agent.value is not None

    def value(observation: Any, key: Any) -> Any:
        view = View.at_start(observation, saved.env.action_space)
        return agent.value(policies, agent.memory(policies), view, key)

    keys = jax.random.split(jax.random.key(0), len(recording))
    values = jax.jit(jax.vmap(value))(jnp.asarray(recording.observation), keys)
    return replace(recording, value=np.asarray(values))


def student(teacher: Teacher, name: str, seeds: int, with_teacher: bool) -> Cell:
    """The cell of a variant: so many seeds of a student."""
    task, variant = teacher.task, VARIANTS[name]
    config, _ = default_config(task.algorithm, task.environment)
    settings: dict[str, Any] = {"total_steps": task.steps}
    if task.algorithm == "td3":
        settings |= {"warm_up": 10_000, "replay_capacity": task.steps}
    if variant.bank:
        settings |= {
            "starts": "snapshots",
            "bank": str(teacher.place.resolve() / f"{variant.bank}.npz"),
            "snapshot_steps": task.switch,
            **variant.settings,
        }
    config = override(config, settings)
    run = RunSettings(num_seeds=seeds, num_evaluations=20, evaluation_episodes=10)
    experiment = Experiment(task.algorithm, task.environment, config, run)
    asked = request(experiment) | {
        "switch": task.switch,
        "variant": name,
        "teacher": request(teacher.experiment),
    }
    if variant.bank:  # wherever it lies
        asked["config"]["bank"] = variant.bank
    transitions = task.steps * seeds
    if with_teacher:
        transitions += task.teacher_steps * teacher.seeds
    hours = transitions * task.cpu_seconds_per_transition / 3600
    measured = partial(measure, teacher, name, experiment)
    return Cell(asked, measured, hours, type(config)())


def folder_of(place: Path, name: str) -> Path:
    """The run folder of a variant."""
    return place / name.replace(", ", "-").replace(" ", "-")


def measure(teacher: Teacher, name: str, experiment: Experiment) -> dict[str, Any]:
    """Train the students of a variant, and say how they fared from natural starts."""
    task = teacher.task
    saved = teacher.policy()
    header, _ = load(teacher.bank("teacher", saved))
    if VARIANTS[name].bank:
        teacher.bank(VARIANTS[name].bank, saved)
    folder = folder_of(teacher.place, name)
    train_or_resume(experiment, folder, teacher.console)
    run = load_run(folder)
    returns, transitions = run.returns()[:, 0], run.evaluations["transitions"]
    # The last evaluation before the switch: after it a student learns from its own starts.
    at = np.searchsorted(transitions, [task.switch, 2 * task.switch], side="right") - 1
    widths = np.diff(transitions)[:, None]
    area = np.sum(widths * (returns[1:] + returns[:-1]) / 2, axis=0) / transitions[-1]
    return {
        "at_switch": returns[at[0]],
        "at_twice": returns[at[1]],
        "at_end": returns[-1],
        "area": area,
        "evaluated_at": [*transitions[at], transitions[-1]],
        **bank_use(run),
        "teacher_return": float(np.mean(header["episode_returns"])),
        "teacher_transitions": task.teacher_steps * teacher.seeds,
    }


def bank_use(run: Run) -> dict[str, Any]:
    """How many episodes began in the bank, per seed, and which share of them was cut."""
    if not any("snapshot_return" in row for row in run.metrics):
        return {"bank_episodes": 0.0, "cut": None}
    transitions, rate = run.metric("snapshot_episodes_per_transition")
    _, cut = run.metric("snapshot_truncated_fraction")
    steps = np.diff(transitions, prepend=0).reshape(-1, *[1] * (rate.ndim - 1))
    episodes = rate * steps
    cut_episodes = np.where(episodes > 0, np.nan_to_num(cut) * episodes, 0.0)
    seeds = rate[0].size
    total = float(episodes.sum())
    return {
        "bank_episodes": total / seeds,
        "cut": float(cut_episodes.sum()) / total if total else None,
    }


# ---- What is written


def text(cells: Cells) -> str:
    """The results in Markdown, a table for each learner and task."""
    places = list(dict.fromkeys(name.rsplit("/", 1)[0] for name in cells))
    return sections(
        *(of_task(place, cells) for place in places),
        "Evaluations from natural starts, deterministic actions: interquartile means over seeds. "
        "Area: the mean height of the curve. Differences are of seeds paired, with 95 % intervals. "
        "No published number exists to compare with: the paper's tables are not public.",
    )


def of_task(place: str, cells: Cells) -> str:
    """The table of one learner on one task, and what it shows."""
    found = {
        name.removeprefix(f"{place}/"): row
        for name, row in cells.items()
        if name.startswith(f"{place}/")
    }
    without = found.get("none")
    rows = []
    for name, row in found.items():
        inert = is_inert(name, row)
        compared = name != "none" and not inert
        rows.append(
            [
                name + (" (STT inert)" if inert else ""),
                *(f"{interquartile_mean(row[each]):.0f}" for each in POINTS),
                difference(row, without, "area") if compared else None,
                f"{row['bank_episodes']:.0f}",
                None if row["cut"] is None else f"{row['cut']:.1%}",
            ]
        )
    first = next(iter(found.values()))
    after = [f"after {transitions:,}" for transitions in first["evaluated_at"]]
    header = ["", *after, "area", "area − none", "bank episodes"]
    caption = (
        f"**{place}**, {len(first['at_end'])} seeds, switch at {first['asked']['switch']:,}. "
        f"Teacher: {first['teacher_return']:.0f}, the mean of the bank's episodes, whose actions "
        f"are stochastic; its training took {first['teacher_transitions']:,} transitions that no "
        "row counts."
    )
    claim = claimed(found) if without else ""
    return sections(table([*header, "cut"], rows, caption), claim)


def is_inert(name: str, row: dict[str, Any]) -> bool:
    """Whether a variant's limit has cut hardly any episode: then its rows compare nothing."""
    return "snapshot_limit" in VARIANTS[name].settings and (row["cut"] or 0.0) < INERT


POINTS = ("at_switch", "at_twice", "at_end", "area")


def paired(row: dict[str, Any], without: dict[str, Any], name: str) -> tuple[float, float, float]:
    """The mean difference of seeds, and its interval."""
    gap = np.subtract(row[name], without[name])
    low, high = bootstrap_interval(gap, np.mean)
    return float(gap.mean()), low, high


def difference(row: dict[str, Any], without: dict[str, Any] | None, name: str) -> str | None:
    """The same as a table's cell."""
    if without is None:
        return None
    mean, low, high = paired(row, without, name)
    return f"{mean:+.0f} [{low:+.0f}, {high:+.0f}]"


def claimed(found: dict[str, dict[str, Any]]) -> str:
    """What the intervals allow to be said of S3RL."""
    if "S3RL" not in found:
        return ""
    if is_inert("S3RL", found["S3RL"]):
        return "STT is inert in S3RL: nothing is compared."
    said = []
    for name, words in (("area", "over the whole curve"), ("at_end", "at the end")):
        _, low, high = paired(found["S3RL"], found["none"], name)
        if low > 0:
            verdict = "better than without"
        elif high < 0:
            verdict = "worse than without"
        else:
            verdict = "not told apart from none"
        said.append(f"{words} {verdict}")
    return f"S3RL is {', '.join(said)}."


def draw(folder: Path, cells: Cells, path: Path) -> None:
    """Learning curves of each learner's students; they are in the run folders alone."""
    for learner in dict.fromkeys(name.partition("/")[0] for name in cells):
        mine = [name.rsplit("/", 1) for name in cells if name.startswith(f"{learner}/")]
        folders = [folder_of(folder / place.replace("/", "-"), variant) for place, variant in mine]
        if all(map(is_finished, folders)):
            runs, variants = map(load_run, folders), [variant for _, variant in mine]
            plot_comparison(list(runs), path.with_stem(f"{path.stem}_{learner}"), variants)


if __name__ == "__main__":
    run_study(study, Arguments)

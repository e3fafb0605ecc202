"""PPO on brax's hopper and halfcheetah at PureJaxRL's setting: 2048 environments,
ten steps a rollout.

    python experiments/brax_ppo.py          # 50 million steps per task, five seeds: for a GPU
    python experiments/brax_ppo.py --quick  # the first 2 million of one seed: 6 and 17 minutes

Needs `pip install -e '.[brax]'`. PureJaxRL (Lu et al. 2022) publishes curves and no numbers. Its
learning rate is constant, and so is the one here in the quick run too, which is therefore the
beginning of the full one. A task that has finished is not trained again, one that was stopped is
resumed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import tyro
from published import RESULTS, interval, is_finished, markdown, score, train_or_resume, write

from jaxrl.algos.ppo import PPOConfig
from jaxrl.analysis.plots import plot_comparison
from jaxrl.analysis.runs import load_run
from jaxrl.config import override
from jaxrl.train.experiment import Experiment, RunSettings
from jaxrl.train.output.console import Console

TASKS = ("brax/hopper", "brax/halfcheetah")
STEPS, SEEDS, QUICK_STEPS = 50_000_000, 5, 2_000_000
SETTING = {
    "num_envs": 2048,
    "num_steps": 10,
    "minibatch_size": 640,  # 32 minibatches
    "num_epochs": 4,
    "learning_rate": 3e-4,
    "anneal_learning_rate": False,
    "entropy_coefficient": 0.0,
    "value_clip_epsilon": 0.2,
    "hidden_sizes": (256, 256),
    "normalize_observations": True,
    "scale_rewards": True,
}


@dataclass(frozen=True)
class Arguments:
    """PPO on brax at PureJaxRL's setting."""

    quick: bool = False
    """The first 2 million steps of one seed; written under another name."""
    tasks: tuple[str, ...] = TASKS
    """Tasks to train; the table shows every task that has been trained."""
    backend: str = "positional"
    """brax's physics; PureJaxRL's is positional."""
    runs: Path = Path("runs")
    """Where the run folders go."""
    report: Annotated[bool, tyro.conf.arg(name="report-only")] = False
    """Train nothing; write the table from the finished runs."""


def main(arguments: Arguments) -> None:
    """Train what is missing, then write the results."""
    name = "brax_ppo_quick" if arguments.quick else "brax_ppo"
    begun, console = time.perf_counter(), Console()
    folders = {task: arguments.runs / name / arguments.backend / Path(task).name for task in TASKS}
    for task in () if arguments.report else arguments.tasks:
        train_or_resume(experiment(task, arguments), folders[task], console)
    done = [folder for folder in folders.values() if is_finished(folder)]
    rows = [score(folder) | {"backend": arguments.backend} for folder in done]
    write(name, rows, table(rows))
    if done:
        plot_comparison([load_run(folder) for folder in done], RESULTS / f"{name}.png")
    console.note(table(rows))
    console.note(
        f"wrote {RESULTS / name}.json, .md and .png in {time.perf_counter() - begun:.0f} s"
    )


def experiment(task: str, arguments: Arguments) -> Experiment:
    """One task."""
    config = override(
        PPOConfig(), SETTING | {"total_steps": QUICK_STEPS if arguments.quick else STEPS}
    )
    run = RunSettings(
        num_seeds=1 if arguments.quick else SEEDS, num_evaluations=5 if arguments.quick else 10
    )
    return Experiment("ppo", task, config, run, environment_options={"backend": arguments.backend})


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    header = ["task", "physics", "seeds", "transitions", "deterministic [95 %]", "stochastic"]
    lines = []
    for row in rows:
        cells = [row["task"], row["backend"], len(row["seeds"]), f"{row['transitions']:,}"]
        lines.append([*cells, interval(row), f"{row['stochastic']:.0f}"])
    return markdown(header, lines)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

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

from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import Cells, Study, check_choices, run_study, table
from training import TrainingArguments, draw_curves, interval, scored

from jaxrl.algos.ppo import PPOConfig
from jaxrl.config import override
from jaxrl.train.experiment import Experiment, RunSettings
from jaxrl.train.output.console import Console

TASKS = ("brax/hopper", "brax/halfcheetah")
STEPS, SEEDS, QUICK_STEPS = 50_000_000, 5, 2_000_000
CPU_SECONDS_PER_TRANSITION = {"brax/hopper": 3.6e-4, "brax/halfcheetah": 1e-3}
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
class Arguments(TrainingArguments):
    """PPO on brax at PureJaxRL's setting."""

    tasks: tuple[str, ...] = TASKS
    """Tasks to train; the table shows every task that has been trained."""
    backend: str = "positional"
    """brax's physics; PureJaxRL's is positional."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("task", arguments.tasks, TASKS)
    name, console = "brax_ppo_quick" if arguments.quick else "brax_ppo", Console()
    cells = {}
    for task in arguments.tasks:
        trained = experiment(task, arguments)
        place = f"{arguments.backend}/{Path(task).name}"
        cells[place] = scored(
            trained,
            arguments.runs / name / place,
            console,
            CPU_SECONDS_PER_TRANSITION[task],
            trained.environment_options,  # the physics
        )

    def draw(found: Cells, path: Path) -> None:
        draw_curves([arguments.runs / name / place for place in found], path)

    return Study(name, cells, text, draw)


def experiment(task: str, arguments: Arguments) -> Experiment:
    """One task."""
    config = override(
        PPOConfig(), SETTING | {"total_steps": QUICK_STEPS if arguments.quick else STEPS}
    )
    run = RunSettings(
        num_seeds=1 if arguments.quick else SEEDS, num_evaluations=5 if arguments.quick else 10
    )
    return Experiment("ppo", task, config, run, environment_options={"backend": arguments.backend})


def text(cells: Cells) -> str:
    """The results in Markdown."""
    header = ["task", "physics", "seeds", "transitions", "deterministic [95 %]", "stochastic"]
    lines = []
    for row in cells.values():
        about = [row["task"], row["backend"], len(row["seeds"]), f"{row['transitions']:,}"]
        lines.append([*about, interval(row), f"{row['stochastic']:.0f}"])
    return table(header, lines)


if __name__ == "__main__":
    run_study(study, Arguments)

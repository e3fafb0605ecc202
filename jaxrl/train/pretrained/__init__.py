"""Agents that come with jaxrl, trained: each by its name, wherever a run folder is read.

    jaxrl eval ppo/CartPole-v1
    jaxrl render ppo/Hopper-v5 --output hopper.gif
    jaxrl collect teacher:Hopper-v5/medium --episodes 10 --output hopper.npz

Each is a run folder in this one with the policy, its critics and nothing else; no code of its own.
Those called ALGORITHM/ENVIRONMENT, `python experiments/pretrained.py` trains with tuned settings
and writes here, beside their scores, `scores.json`. A teacher, teacher:TASK/LEVEL, is one from
which states and data are taken: `python experiments/teachers.py` trains it and writes its scores
into experiments/results/teachers.md. That leaves the run folders of the trainings in runs/teachers,
each with every transition: JAXRL_TEACHERS names such a folder to those who want these
(jaxrl/train/datasets/parts/taught.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from jaxrl.errors import JaxrlError, unknown

PREFIX = "teacher:"
ROOT = Path(__file__).parent
TRAININGS = "JAXRL_TEACHERS"  # the variable that names the folder of the teachers' trainings


def names() -> list[str]:
    """The agents there are, as ALGORITHM/ENVIRONMENT and teacher:TASK/LEVEL."""
    found = [*ROOT.glob("*/*/config.json"), *ROOT.glob("teacher/*/*/config.json")]
    return sorted(
        path.parent.relative_to(ROOT).as_posix().replace("teacher/", PREFIX, 1) for path in found
    )


def folder_of(name: str) -> Path:
    """The folder of an agent, whether it is there or not."""
    return ROOT / name.replace(PREFIX, "teacher/", 1)


def located(run: Path | str) -> Path:
    """The run folder that is meant: an agent's where one is named, else `run` itself.

    A folder that is there comes before an agent of its name.
    """
    name = str(run)
    if name.startswith(PREFIX):
        teachers = [each for each in names() if each.startswith(PREFIX)]
        if not teachers:
            makes = "python experiments/teachers.py makes them"
            raise JaxrlError(f"{name}: no teachers are there. {makes}.")
        if name not in teachers:
            raise unknown("teacher", name, teachers)
        return folder_of(name)
    if os.path.exists(name):
        return Path(run)
    if name in names():
        return folder_of(name)
    if _is_like_a_name(Path(run)):
        raise unknown("run folder or agent that comes with jaxrl", name, names())
    return Path(run)


def _is_like_a_name(run: Path) -> bool:
    """Whether what is no folder may be a misspelt name: by an algorithm, or on a task, of ours."""
    if len(run.parts) < 2 or run.is_absolute() or os.path.exists(run.parent):
        return False
    ours = [Path(each) for each in names() if not each.startswith(PREFIX)]
    return any(run.parts[0] == each.parts[0] or run.name == each.name for each in ours)


def comes_with_jaxrl(run: Path | str) -> bool:
    """Whether a run is an agent of ours, by its name or by its folder: nothing is written there."""
    try:
        return ROOT.resolve() in located(run).resolve().parents
    except (OSError, RuntimeError, ValueError):  # what no folder could be called
        return False


def training(task: str) -> Path | None:
    """The run folder of the training on a task, in $JAXRL_TEACHERS; None where that is not set."""
    given = os.environ.get(TRAININGS)
    if not given:
        return None
    folder = Path(given).expanduser()
    if not (folder / task).is_dir():
        found = sorted(path.name for path in folder.glob("*/") if path.is_dir())
        raise JaxrlError(
            f"{TRAININGS} is {given}, but there is no {task} in it, only {', '.join(found)}."
            if found
            else f"{TRAININGS} is {given}, but there is no run in it."
        )
    return folder / task

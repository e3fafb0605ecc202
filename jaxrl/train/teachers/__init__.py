"""Teachers: trained policies that come with jaxrl, from which states and data are taken.

    jaxrl eval teacher:Hopper-v5/expert
    jaxrl collect teacher:Hopper-v5/medium --episodes 10 --output hopper.npz

Each is a run folder with the policy, its critics and nothing else. `python experiments/teachers.py`
trains them, writes them here, and their scores into experiments/results/teachers.md. It leaves the
run folders of the trainings in runs/teachers, each with every transition: JAXRL_TEACHERS names such
a folder to those who want these (jaxrl/train/datasets/parts/taught.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from jaxrl.errors import JaxrlError, unknown

PREFIX = "teacher:"
ROOT = Path(__file__).parent
TRAININGS = "JAXRL_TEACHERS"  # the variable that names the folder of the trainings


def names() -> list[str]:
    """The teachers there are, as TASK/LEVEL."""
    return sorted(path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("*/*/config.json"))


def is_teacher(run: Path | str) -> bool:
    """Whether a run is named as a teacher, teacher:TASK/LEVEL."""
    return str(run).startswith(PREFIX)


def located(run: Path | str) -> Path:
    """The run folder that is meant: a teacher's where one is named, else `run` itself."""
    if not is_teacher(run):
        return Path(run)
    if not names():
        makes = "python experiments/teachers.py makes them"
        raise JaxrlError(f"{run}: no teachers are there. {makes}.")
    name = str(run).removeprefix(PREFIX)
    if name not in names():
        raise unknown("teacher", name, names())
    return ROOT / name


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
